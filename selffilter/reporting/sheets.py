"""Which samples are shown: what a run keeps, what it drops, and where it changed its mind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.randomness import draw
from selffilter.reporting.draw_of_rows import Drawn
from selffilter.reporting.fates import CONFIDENT, DIVERSE, DROPPED

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Sheet:
    """Samples that have something in common.

    Attributes:
        title: What that is.
        note: How they were chosen.
        among: How many of the followed rows have it.
        chosen: Places in `Drawn.rows_S` of those that are shown, in their order.
        right_share: Share of right pairs among all that have it; None: the truth is not known.
    """

    title: str
    note: str
    among: int
    chosen: Places
    right_share: float | None = None


def choose_sheets(
    drawn: Drawn, samples: int, seed: int, clean_S: NDArray[np.int8] | None = None
) -> list[tuple[Sheet, Sheet]]:
    """Choose what is shown, in pairs that are set beside each other.

    Args:
        drawn: The followed rows.
        samples: How many a sheet shows at most.
        seed: Of the draws by lot.
        clean_S: 1 right pairs, 0 planted ones, -1 unknown, (S,) int8; None: nothing is known.

    Returns:
        Pairs of sheets; one of the two may be empty, not both.
    """
    last = drawn.fate_RS[-1]
    ranked_S, place_S = drawn.ranked_RS[-1], drawn.quantile_S(-1)
    scored_S = np.isfinite(place_S)
    has_scores = bool(scored_S.any())
    kept_S = last == CONFIDENT if (last == CONFIDENT).any() else last > DROPPED
    dropped_S = last == DROPPED
    first_S = drawn.fate_RS[0]

    def sheet(title: str, note: str, which_S: NDArray[np.bool_], order: str = "lot") -> Sheet:
        places = np.flatnonzero(which_S)
        if order == "lot":
            rows = draw(drawn.rows_S[places], min(samples, len(places)), seed, "report", title)
            chosen = np.searchsorted(drawn.rows_S, rows)
            by = -np.nan_to_num(place_S[chosen], nan=-1.0)
            chosen = chosen[np.argsort(by, kind="stable")]
        else:
            value = {
                "high": -ranked_S, "low": ranked_S, "rise": -_risen(drawn), "fall": _risen(drawn),
                "turns": -_turns(drawn) + 0.001 * place_S,
            }[order][places]  # fmt: skip
            chosen = places[np.argsort(value, kind="stable")[:samples]]
        return Sheet(title, note, len(places), chosen, _right(clean_S, places))

    by_lot = "drawn by lot" + ", best first" * has_scores
    pairs = [(sheet("Kept", by_lot, kept_S), sheet("Dropped", by_lot, dropped_S))]
    if has_scores:
        pairs += [
            (
                sheet(
                    "Trusted most",
                    "the best by the last round’s score",
                    (last >= 0) & scored_S,
                    "high",
                ),
                sheet(
                    "Trusted least",
                    "the worst by the last round’s score",
                    (last >= 0) & scored_S,
                    "low",
                ),
            ),
            (
                sheet("Only just kept", "the worst of the kept", kept_S & scored_S, "low"),
                sheet("Only just dropped", "the best of the dropped", dropped_S & scored_S, "high"),
            ),
        ]
    if len(drawn.rounds) > 1 and has_scores:
        in_S = (first_S == DROPPED) & (last == CONFIDENT)
        out_S = (first_S == CONFIDENT) & (last == DROPPED)
        pairs += [
            (
                sheet("Taken in", "dropped at first, confident now: risen most", in_S, "rise"),
                sheet("Given up", "confident at first, dropped now: fallen most", out_S, "fall"),
            ),
            (
                sheet("To and fro", "in and out of the confident rows most often",
                      (last >= 0) & (_turns(drawn) > 1), "turns"),
                sheet("By lot", "in the selection only because they were drawn",
                      last == DIVERSE),
            ),
        ]  # fmt: skip
    return [pair for pair in pairs if len(pair[0].chosen) or len(pair[1].chosen)]


def _risen(drawn: Drawn) -> NDArray[np.float64]:
    """Return how far each row has risen among all, from the first round to the last."""
    return np.nan_to_num(drawn.quantile_S(-1) - drawn.quantile_S(0))


def _turns(drawn: Drawn) -> NDArray[np.int64]:
    """Return how often each row has joined or left the confident ones."""
    confident_RS = drawn.fate_RS == CONFIDENT
    turns: NDArray[np.int64] = (confident_RS[1:] != confident_RS[:-1]).sum(axis=0)
    return turns


def _right(clean_S: NDArray[np.int8] | None, places: Places) -> float | None:
    if clean_S is None:
        return None
    known = clean_S[places]
    known = known[known >= 0]
    return float(known.mean()) if len(known) else None
