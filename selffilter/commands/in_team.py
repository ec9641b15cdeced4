"""Commands that work in a team of ranks: join, work, leave in good order, say once why not."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from selffilter.endings import EXIT_CRASH, EXIT_STOPPED, Ending, ending_of, note_final
from selffilter.errors import Lost
from selffilter.plain_text import visible

if TYPE_CHECKING:  # torch is heavy
    from selffilter.team import Team

_SPEAKS_WITHIN_S = 5.0
"""torchrun ends all ranks as soon as one is gone: those with nothing to say go last."""


def with_team(accelerator: str, work: Callable[[Team], None]) -> None:
    """Join the other ranks, work, and leave in good order.

    Args:
        accelerator: See `team.join_team`.
        work: What to do as one of them.

    Raises:
        SystemExit: If the work ends otherwise than well, and every rank knows why.
    """
    quieten()
    from selffilter.interrupt import Stopped, TornDown
    from selffilter.team import join_team

    team = join_team(accelerator)
    try:
        work(team)
    except TornDown:
        why = f": {gone}" if (gone := team.gone()) else ""
        team.say(
            f"ended by torchrun{why}. What is saved stays; the same command goes on:  "
            f"{this_command()}"
        )
        sys.exit(EXIT_STOPPED)
    except Stopped as stopped:
        team.tell(stopped)
        team.say(f"stopped and saved. The same command goes on:  {this_command()}")
        team.leave_after_main()
        note_final(ending_of(stopped))
        sys.exit(EXIT_STOPPED)
    except Exception as raised:
        error = team.explained(raised)
        team.tell(error)
        mine, other = ending_of(error), team.another_ended()
        if other is not None and (mine.code == EXIT_CRASH or mine.message == other.message):
            # A collective that broke when the other left, or the same mistake: it has been said,
            # but on another node, to another screen.
            end(other, speak=other.node != mine.node and is_first_here())
        if mine.code == EXIT_CRASH and not isinstance(error, Lost):
            raise
        end(mine)
    team.leave()


def end(ending: Ending, *, speak: bool = True, at_once: bool = False) -> NoReturn:
    """Say why, or leave that to another rank, and exit; a final end is not to be repeated.

    Args:
        ending: The end.
        speak: Whether this rank says why.
        at_once: Whether one that does not leaves before those that may still have to speak.
    """
    note_final(ending)
    if speak:
        whose = f"rank {ending.rank}: " if ending.rank else ""
        again = f":  {this_command()}" if ending.code == EXIT_STOPPED else ""
        print(f"selffilter: {whose}{visible(ending.message)}{again}", file=sys.stderr, flush=True)
    elif "TORCHELASTIC_RUN_ID" in os.environ and not at_once:
        time.sleep(_SPEAKS_WITHIN_S)
    sys.exit(ending.code)


def is_first_here() -> bool:
    """Whether this rank speaks for those of its node that would say the same."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def this_command() -> str:
    """Return the command line that this process was called with, to be repeated."""
    return shlex.join(["selffilter", *sys.argv[1:]])


def quieten() -> None:
    """Keep libraries' advice out of the table; our own words are the ones that matter."""
    import logging
    import warnings

    os.environ.setdefault("WANDB_SILENT", "true")
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
