"""`selffilter status`: where a run stands, once or again and again until it ends."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from selffilter.errors import UserError
from selffilter.rundir.status import FINISHED, RUNNING, SILENT, Status, read_status
from selffilter.store import LEASE_STALE_S, without_nan
from selffilter.tracking.console import format_row, heading
from selffilter.tracking.pace import clock

_ALARMS_SHOWN = 5


def show_status(
    run_dir: Path, *, watch: bool = False, every_s: float = 5.0, as_json: bool = False
) -> None:
    """Print where a run stands.

    Args:
        run_dir: The run.
        watch: Print it again until nobody works on it: in place on a terminal, elsewhere a line
            each time that something has changed.
        every_s: How often to look then.
        as_json: Print `Status.record` instead, on one line.

    Raises:
        UserError: If there is no run.
    """
    if every_s <= 0:
        raise UserError(f"--every {every_s:g}: how many seconds lie between two looks, above 0.")
    console = Console(highlight=False)
    status = read_status(run_dir)
    if as_json:
        _print_json(status)
        while watch and status.state == RUNNING:
            time.sleep(every_s)
            status = read_status(run_dir)
            _print_json(status)
    elif watch and console.is_terminal:
        with Live(_whole(status), console=console, auto_refresh=False) as live:
            while status.state == RUNNING:
                time.sleep(every_s)
                status = read_status(run_dir)
                live.update(_whole(status), refresh=True)
    else:
        console.print(_whole(status), soft_wrap=True)
        if watch:
            _follow(run_dir, status, every_s, console)


def _follow(run_dir: Path, status: Status, every_s: float, console: Console) -> None:
    """Print a line each time that something has changed: for logs and pipes."""
    said, rounds, alarms = "", len(status.rounds), len(status.alarms)
    was_running = status.state == RUNNING
    while status.state == RUNNING:
        line = " | ".join(part for part in now_lines(status) if part)
        if line != said:
            console.print(Text(line), soft_wrap=True)
        said = line
        time.sleep(every_s)
        status = read_status(run_dir)
        for place, summary in enumerate(status.rounds[rounds:], rounds):
            if not place:
                console.print(Text(heading()), soft_wrap=True)
            console.print(Text(format_row(summary)), soft_wrap=True)
        for alarm in status.alarms[alarms:]:
            console.print(Text(_alarm(alarm)), soft_wrap=True)
        rounds, alarms = len(status.rounds), len(status.alarms)
    if was_running:
        for line in ended_lines(status):
            console.print(Text(line), soft_wrap=True)


def _print_json(status: Status) -> None:
    print(json.dumps(without_nan(status.record())), flush=True)


def _whole(status: Status) -> Group:
    lines = [
        Text(f"{status.run_dir}: {status.samples_seen:,} of {status.samples_total:,} samples seen"),
        Text(""),
    ]
    if status.rounds:
        lines.append(Text(heading(), style="bold"))
        lines += [Text(format_row(summary)) for summary in status.rounds]
        lines.append(Text(""))
    lines += [Text(_alarm(alarm), style="yellow") for alarm in status.alarms[-_ALARMS_SHOWN:]]
    shown = now_lines(status) if status.state == RUNNING else ended_lines(status)
    return Group(*lines, *(Text(line) for line in shown))


def now_lines(status: Status) -> list[str]:
    """Say what a run that is worked on is doing: stage, progress, training, heartbeat."""
    lines = []
    progress = status.progress
    if progress is not None:
        lines.append(_progress_line(progress))
    elif status.next is not None:
        lines.append(f"{status.next['stage']} of round {status.next['round']}")
    training = status.training
    if training is not None and training["seconds_left"]:
        lines.append(
            f"training of all rounds: {clock(training['seconds_left'])} left at "
            f"{training['samples_per_s']:,.0f} samples/s, scoring not counted"
        )
    holder = status.holder
    if holder is not None:
        age = holder["heartbeat_age_s"]
        beat = "no heartbeat yet" if age is None else f"heartbeat {age:.0f} s ago"
        lines.append(f"held by process {holder['pid']} on {holder['host']}, {beat}")
    return lines


def ended_lines(status: Status) -> list[str]:
    """Say how a run that nobody works on has ended, and how it goes on."""
    if status.state == FINISHED:
        return ["finished"]
    following = "export"
    if status.next is not None:
        following = f"{status.next['stage']} of round {status.next['round']}"
    again = f"selffilter run {Path(status.run_dir) / 'config.yaml'}"
    if status.state == SILENT and status.holder is not None:
        age = status.holder["heartbeat_age_s"]
        return [
            f"next: {following}",
            f"process {status.holder['pid']} on {status.holder['host']} is gone or does not answer "
            f"(last heartbeat {age:.0f} s ago):  {again}",
        ]
    return [f"next: {following}", f"nobody is working on it:  {again}"]


def _progress_line(progress: dict[str, object]) -> str:
    parts = [str(progress["title"])]
    if isinstance(progress.get("total"), int):
        parts.append(f"{progress['done']:,}/{progress['total']:,}")
        parts.append(f"{progress['per_second']:,.4g}/s")
        left = progress.get("seconds_left")
        if isinstance(left, int | float) and left > 0:
            parts.append(f"{clock(left)} left")
    parts.append(str(progress.get("note") or ""))
    age = progress.get("age_s")
    if isinstance(age, int | float) and age >= LEASE_STALE_S:
        parts.append(f"(nothing new for {clock(age)})")
    return "  ".join(part for part in parts if part)


def _alarm(alarm: dict[str, object]) -> str:
    return f"round {alarm['round']}  guard: {alarm.get('sentence', alarm.get('name'))}"
