"""The collapse guard: bounds on what is measured of a selection, and how a mix is widened.

A loop that trains on what it is sure of may close in on itself: ever fewer kinds of rows, ever
surer of them. Whoever runs it wants to hear of that while it happens. What is measured comes from
`selffilter.selecting.drift` and `bias`; here it is held against bounds, and each alarm is a
sentence for the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from selffilter.config import GuardConfig

_WIDER_DRAW = 2.0
_LEAST_DRAW = 0.05  # what a draw of nothing is widened to
_WIDER_KEEP = 1.25


@dataclass(frozen=True)
class Measured:
    """What is known of a selection; None, and NaN: nothing, and no alarm comes of it.

    Attributes:
        rows: Selected rows.
        diverse_share: See `GuardConfig`.
        retention: See `GuardConfig`.
        lead_sd: See `GuardConfig`.
        coverage: By grouping; see `GuardConfig`.
        entropy: By grouping; see `GuardConfig`.
    """

    rows: int | None = None
    diverse_share: float | None = None
    retention: float | None = None
    lead_sd: float | None = None
    coverage: Mapping[str, float] = field(default_factory=dict)
    entropy: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Alarm:
    """A bound that was not kept.

    Attributes:
        name: Field of `GuardConfig`.
        value: What was measured.
        bound: What it should have kept.
        sentence: What happened, for the log.
        grouping: Of what, where a grouping has to do with it.
    """

    name: str
    value: float
    bound: float
    sentence: str
    grouping: str | None = None


def check(measured: Measured, settings: GuardConfig | None = None) -> list[Alarm]:
    """Hold a selection against the bounds.

    Returns:
        An alarm for each that is not kept, in the order of `GuardConfig`; none if all are.
    """
    bounds = settings or GuardConfig()
    values: list[tuple[str, str | None, float | None]] = [
        ("diverse_share", None, measured.diverse_share),
        *(("coverage", *item) for item in measured.coverage.items()),
        *(("entropy", *item) for item in measured.entropy.items()),
        ("retention", None, measured.retention),
        ("lead_sd", None, measured.lead_sd),
        ("rows", None, measured.rows),
    ]
    alarms = []
    for name, grouping, value in values:
        bound = getattr(bounds, name)
        if value is None or bound is None:
            continue
        if value > bound if name == "lead_sd" else value < bound:  # false for NaN
            alarms.append(
                Alarm(name, value, bound, _sentence(name, value, bound, grouping), grouping)
            )
    return alarms


def _sentence(name: str, value: float, bound: float, grouping: str | None) -> str:
    subject = {
        "diverse_share": "The share of diverse rows in the selection",
        "coverage": f"The share of groups that the selection meets by {grouping}, of those that a "
        "uniform draw would meet,",
        "entropy": f"The share of the base over which the selection is spread by {grouping}",
        "retention": "The share of the last confident rows that are still confident",
        "lead_sd": "The lead of the confident over the diverse rows trained on, in sd,",
        "rows": "The number of selected rows",
    }[name]
    side = "most" if name == "lead_sd" else "least"
    return f"{subject} is {value:.4g}; {name} asks for at {side} {bound:.4g}."


@dataclass(frozen=True)
class Widening:
    """How far a run's mix has been widened, to be applied to what is scheduled for each round.

    Attributes:
        draw: How often the diverse share has been.
        keep: How often the confident share has been.
    """

    draw: int = 0
    keep: int = 0

    def after(self, alarms: Iterable[Alarm]) -> Widening:
        """Return the widening after a round's alarms.

        Those about *what* is selected (diverse share, coverage, entropy, lead) ask for a wider
        draw; about confident rows that do not stay, for a wider confident share; about too few
        rows, for both. Several alarms at once are one step.
        """
        names = {alarm.name for alarm in alarms}
        return Widening(
            self.draw + bool(names - {"retention"}),
            self.keep + bool(names & {"retention", "rows"}),
        )

    def fractions(
        self,
        diverse_fraction: float,
        keep_fraction: float,
        *,
        most_diverse: float = 0.5,
        most_kept: float = 0.8,
    ) -> tuple[float, float]:
        """Return the two fractions after widening.

        The diverse fraction doubles with each step, from .05 at least; the kept fraction grows by a
        quarter. Neither goes beyond its bound, nor below what it is. A confident share of nothing
        stays that: then rows are not chosen by score at all.

        Args:
            diverse_fraction: As scheduled, of the base.
            keep_fraction: As scheduled, of the scored base.
            most_diverse: How far the first may be widened.
            most_kept: How far the second.

        Returns:
            The diverse and the kept fraction.
        """
        diverse, kept = diverse_fraction, keep_fraction
        if self.draw:
            wider = max(diverse, _LEAST_DRAW / _WIDER_DRAW) * _WIDER_DRAW**self.draw
            diverse = max(diverse, min(most_diverse, wider))
        if self.keep:
            kept = max(kept, min(most_kept, kept * _WIDER_KEEP**self.keep))
        return diverse, kept
