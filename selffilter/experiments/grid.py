"""The cells of an experiment, and what each waits for. Pure: nothing is read or run here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from selffilter.config import nearest
from selffilter.errors import UserError
from selffilter.experiments.controls import LOOP, Method
from selffilter.experiments.facts import NEEDS
from selffilter.experiments.schema import Experiment


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    pool: str
    method: str
    seed: int

    @property
    def run_name(self) -> str:
        """Name of its run directory, in the folder of its pool."""
        return f"{self.method}-seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.pool}/{self.run_name}"


BOOTSTRAP, END = "bootstrap", "end"


@dataclass(frozen=True)
class Job:
    """A cell to be run as far as somebody needs it.

    Attributes:
        cell: Which run.
        until: ``bootstrap`` (the training of round 0; some other run branches off there) or
            ``end``.
        forks: Whether it begins with the loop's bootstrap round.
        waits_for: Cells whose end must be there first. (A fork waits for the loop's bootstrap,
            too.)
        asked: Whether its cell belongs to the grid, not only to what the grid needs.
    """

    cell: Cell
    until: str
    forks: bool
    waits_for: tuple[Cell, ...]
    asked: bool

    @property
    def source(self) -> Cell:
        """The run whose bootstrap a fork shares."""
        return Cell(self.cell.pool, LOOP, self.cell.seed)


def expand(
    experiment: Experiment, only: Collection[str] = (), seeds: Collection[int] = ()
) -> list[Job]:
    """Return the jobs of an experiment: all that is asked for, and all that those need.

    Args:
        experiment: The grid.
        only: Some of its methods; empty: all.
        seeds: Some of its seeds; empty: all.

    Returns:
        Seed by seed, in each pool by pool, in each the loop first, then by method in the order
        of the tables; each job after those that it waits for.

    Raises:
        UserError: If a method or seed is not of the experiment.
    """
    asked = experiment.asked_methods()
    _refuse_strangers("--only", only, asked)
    _refuse_strangers("--seeds", seeds, experiment.seeds)
    known = experiment.known_methods()
    wanted = [name for name in asked if not only or name in only]
    until = _needed(wanted, known)
    jobs = []
    for seed in experiment.seeds:
        if seeds and seed not in seeds:
            continue
        for pool in experiment.pools:
            for name, end in until.items():
                waits = tuple(Cell(pool.name, n, seed) for n in waits_for(known[name]))
                jobs.append(
                    Job(
                        Cell(pool.name, name, seed),
                        end,
                        known[name].start == "bootstrap",
                        waits,
                        name in wanted,
                    )
                )
    return jobs


def waits_for(method: Method) -> list[str]:
    """Return the methods whose end a method needs: those it uses, and those of its placeholders."""
    named = [name for place in method.placeholders for name in NEEDS.get(place, ())]
    return list(dict.fromkeys([*method.uses, *named]))


def _needed(wanted: Iterable[str], known: Mapping[str, Method]) -> dict[str, str]:
    """Return the methods to run and how far, each after those it needs; the loop first."""
    until: dict[str, str] = {}

    def need(name: str, end: str, asked_by: tuple[str, ...] = ()) -> None:
        if name not in known:
            raise UserError(f"method {asked_by[-1]!r} uses {name!r}, which there is not.")
        if name in asked_by:
            raise UserError(f"methods use each other in a circle: {' → '.join(asked_by)} → {name}.")
        method = known[name]
        if method.start == "bootstrap":
            need(LOOP, until.get(LOOP, BOOTSTRAP), (*asked_by, name))
        for other in waits_for(method):
            need(other, END, (*asked_by, name))
        until[name] = END if END in (end, until.get(name)) else BOOTSTRAP

    for name in wanted:
        need(name, END)
    loop_first = {LOOP: until[LOOP]} if LOOP in until else {}
    return loop_first | until


def _refuse_strangers(option: str, given: Collection[object], there: Collection[object]) -> None:
    for value in given:
        if value not in there:
            raise UserError(
                f"{option}: {value!r} is not in this experiment; it has "
                f"{', '.join(map(str, there))}.{nearest(str(value), map(str, there))}"
            )
