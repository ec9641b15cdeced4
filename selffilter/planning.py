"""What a run would do, derived from its config: steps, repeats, compute, disk. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from selffilter.config import Config
from selffilter.errors import UserError

SCORING_SHARE_WARNED = 0.3
NULL_ROWS = 2048
"""Of the probe, which each pass pairs wrongly, to see what that scores: see `scoring.null`."""
FEWEST_NULL_ROWS = 200
"""With fewer it is not done."""
TRAINING_TO_FORWARD = 3
"""Forward and backward of a training step over the forward alone, in FLOPs."""
_BYTES_SCORE_ROW = 32
_BYTES_SELECTION_ROW = 40
_STATE_COPIES = 4
"""A training state holds weights, their average and two moments of the optimizer."""


@dataclass(frozen=True)
class RoundSteps:
    """The optimizer steps of a round, counted over the whole run.

    Attributes:
        round: Number of the round; 0 is the bootstrap.
        begin: First step.
        end: One past the last.
    """

    round: int
    begin: int
    end: int

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.end - self.begin


def round_steps(config: Config) -> list[RoundSteps]:
    """Return the steps of all rounds; they sum to ``rounds.samples_seen``, to a batch.

    The bootstrap gets `bootstrap_fraction` of the steps, the other rounds share the rest evenly.

    Raises:
        UserError: If a round would have no step.
    """
    batch = config.train.global_batch_size
    total = config.rounds.samples_seen // batch
    count = config.rounds.count
    if total < count:
        raise UserError(
            f"rounds.samples_seen={config.rounds.samples_seen:,} makes {total} batches of "
            f"{batch}; {count} rounds need at least one each."
        )
    if count == 1:
        return [RoundSteps(0, 0, total)]
    first = min(max(1, round(config.rounds.bootstrap_fraction * total)), total - (count - 1))
    ends = [first + (total - first) * r // (count - 1) for r in range(count)]
    return [RoundSteps(r, ends[r - 1] if r else 0, ends[r]) for r in range(count)]


def scores_from(config: Config, round_: int) -> str:
    """Return where a round's scores come from.

    Returns:
        "model"; "given" (a file of the user's); "carried" (those of the round before); or "none"
        (nothing is kept for its score, so nothing is scored).
    """
    if config.select.keep(round_) == 0:
        return "none"
    if config.score.signal == "given":
        return "given"
    return "carried" if config.score.rescore == "once" and round_ > 0 else "model"


def encoded_in(config: Config, round_: int) -> int | None:
    """Return the round whose model encoded the pool for a round's scores; None: no model did."""
    while (source := scores_from(config, round_)) == "carried":
        round_ -= 1
    return round_ if source == "model" else None


def ranks_by_merit(config: Config) -> bool:
    """Whether rows are ranked by their places over rounds, and not by the latest score alone."""
    score = config.score
    return score.rescore == "unconsumed" or score.fraction < 1 or config.select.memory_half_life > 0


def rows_scored(config: Config, round_: int, base_rows: int, pool_rows: int) -> float:
    """Return how many rows a round's model scores, about: not those that keep their score."""
    rows = float(pool_rows)
    if config.score.rescore == "unconsumed" and round_:
        on = selected_share(config, round_ - 1) * base_rows
        consumed = round_steps(config)[round_].steps * config.train.global_batch_size
        rows -= min(on, consumed)
    return config.score.fraction * max(0.0, rows)


def samples_after(config: Config, round_: int) -> int | None:
    """Return what the round after this one consumes; None after the last."""
    schedule = round_steps(config)
    if round_ + 1 >= len(schedule):
        return None
    return schedule[round_ + 1].steps * config.train.global_batch_size


def selected_share(config: Config, round_: int) -> float:
    """Return the share of the base that a round's selection will hold, about.

    The diverse draw meets some confident rows, and these are not replaced.
    """
    keep, diverse = config.select.keep(round_), config.select.diverse(round_)
    return keep + diverse - keep * diverse


def weights_since(config: Config, round_: int) -> int:
    """Return the round that began with the weights that this one trains on."""
    return max((r for r in config.rounds.fresh_weights_at if r <= round_), default=0)


def schedule_since(config: Config, round_: int) -> int:
    """Return the round that began with the schedule that this one goes on with."""
    anew = [*config.rounds.fresh_weights_at, *config.rounds.fresh_schedule_at]
    return max((r for r in anew if r <= round_), default=0)


def optimizer_since(config: Config, round_: int) -> int:
    """Return the round that began with the optimizer that this one goes on with."""
    anew = [*config.rounds.fresh_weights_at, *config.rounds.fresh_optimizer_at]
    return max((r for r in anew if r <= round_), default=0)


def stages_of(config: Config, round_: int) -> tuple[str, ...]:
    """Return the stages of a round: the last one scores and selects only if asked to."""
    last = round_ == config.rounds.count - 1
    return (
        ("train",) if last and not config.rounds.final_selection else ("train", "score", "select")
    )


def last_stage(config: Config) -> tuple[int, str]:
    """Return round and name of a run's last stage."""
    last = config.rounds.count - 1
    return last, stages_of(config, last)[-1]


def ranks_allowed(global_batch_size: int, most: int = 1024) -> list[int]:
    """Return the numbers of ranks that divide a global batch."""
    return [n for n in range(1, min(most, global_batch_size) + 1) if global_batch_size % n == 0]


def check_ranks(config: Config, ranks: int) -> None:
    """Check that the ranks divide the global batch.

    Raises:
        UserError: With the numbers that do.
    """
    if config.train.global_batch_size % ranks:
        allowed = ", ".join(map(str, ranks_allowed(config.train.global_batch_size, 4 * ranks)))
        raise UserError(
            f"{ranks} processes do not divide train.global_batch_size="
            f"{config.train.global_batch_size}; {allowed} … would."
        )


def compute_spent(
    config: Config, base_rows: int, pool_rows: int, flops: float
) -> dict[str, int | float]:
    """Count what a run's training costs: its steps, and the passes that it has used.

    Args:
        config: The run.
        base_rows: Rows that may be trained on.
        pool_rows: Rows indexed.
        flops: Of the forward of one pair.

    Returns:
        ``samples_seen``, ``training_flops``, ``scoring_passes`` and ``scoring_flops``; the pass
        for the final selection comes after all training and is not counted.
    """
    seen = round_steps(config)[-1].end * config.train.global_batch_size
    passes = [r for r in range(config.rounds.count - 1) if scores_from(config, r) == "model"]
    return {
        "samples_seen": seen,
        "training_flops": TRAINING_TO_FORWARD * flops * seen,
        "scoring_passes": len(passes),
        "scoring_flops": flops * _rows_encoded(config, passes, base_rows, pool_rows),
    }


@dataclass(frozen=True)
class Outlook:
    """The plan of a run in numbers.

    Attributes:
        rounds: A row a round: round, steps, samples, rows selected, consumed / selected.
        training_flops: Of all rounds.
        scoring_flops: Of all passes over the pool, the final one included.
        scoring_passes: How many there are.
        disk_bytes: What the run directory will hold, about.
        warnings: Sentences.
    """

    rounds: list[dict[str, float | int]]
    training_flops: float
    scoring_flops: float
    scoring_passes: int
    disk_bytes: float
    warnings: list[str]


def outlook(
    config: Config,
    base_rows: int,
    pool_rows: int,
    flops: float,
    parameters: int,
    embeddings_bytes: int = 0,
) -> Outlook:
    """Derive what a run would do on a pool.

    Args:
        config: The run.
        base_rows: Rows that may be trained on.
        pool_rows: Rows indexed.
        flops: Of the forward of one pair.
        parameters: Of the model.
        embeddings_bytes: Of what a round keeps of the pool's embeddings.

    Raises:
        UserError: If a selection would not fill a batch.
    """
    batch = config.train.global_batch_size
    selected = [
        round(selected_share(config, round_) * base_rows) for round_ in range(config.rounds.count)
    ]
    rows: list[dict[str, float | int]] = []
    warnings: list[str] = []
    for steps in round_steps(config):
        on = base_rows if steps.round == 0 else selected[steps.round - 1]
        if on < batch:
            raise UserError(
                f"round {steps.round} would train on {on:,} rows, which do not fill one batch of "
                f"{batch}: lower train.global_batch_size or raise select.keep_fraction."
            )
        consumed = steps.steps * batch
        rows.append(
            {
                "round": steps.round,
                "steps": steps.steps,
                "samples": consumed,
                "rows": on,
                "consumed_per_row": consumed / on,
            }
        )
        if steps.round and consumed < on:
            warnings.append(
                f"round {steps.round} consumes {consumed / on:.2f} of what is selected for it: "
                "part of the selection is never trained on."
            )
    passes = [
        r
        for r in range(config.rounds.count)
        if "score" in stages_of(config, r) and scores_from(config, r) == "model"
    ]
    training = float(TRAINING_TO_FORWARD) * flops * sum(row["samples"] for row in rows)
    scoring = flops * _rows_encoded(config, passes, base_rows, pool_rows)
    if training and scoring / training > SCORING_SHARE_WARNED:
        warnings.append(
            f"scoring costs {scoring / training:.2f} of training ({len(passes)} passes over "
            f"{pool_rows:,} rows): fewer rounds, or longer ones, would spend more on training."
        )
    disk = sum(
        _BYTES_SCORE_ROW * pool_rows + _BYTES_SELECTION_ROW * selected[r] + embeddings_bytes
        for r in range(config.rounds.count)
        if "score" in stages_of(config, r)
    ) + config.rounds.count * 4.0 * parameters * (_STATE_COPIES + 1)
    return Outlook(rows, training, scoring, len(passes), disk, warnings)


def _rows_encoded(config: Config, rounds: list[int], base_rows: int, pool_rows: int) -> float:
    """Return how many rows some rounds' scoring encodes, with the bank.

    A reference model's encoding counts like the scorer's; so does that of mirrored images, though
    no caption is encoded again.
    """
    from selffilter.scoring.signals.find import find_signal  # torch is heavy

    names = (config.score.signal, *config.score.also)
    needs = {need for name in names if name != "given" for need in find_signal(name).needs}
    bank = min(config.score.bank_size, base_rows)
    probe = min(config.select.probe_fraction * pool_rows, config.select.probe_max_rows)
    null = min(NULL_ROWS, probe) if probe >= FEWEST_NULL_ROWS else 0
    encoded = 0.0
    for round_ in rounds:
        models = 1 + ("reference" in needs and (round_ > 0 or config.score.reference is not None))
        rows = rows_scored(config, round_, base_rows, pool_rows)
        encoded += models * (bank + rows) + ("flipped" in needs) * rows
        encoded += models * null
    return encoded
