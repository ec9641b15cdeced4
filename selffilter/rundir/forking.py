"""Starting another run from a round of this one, so that controls share the bootstrap."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from selffilter.clip.model import find_recipe
from selffilter.config import FRESH, Config, flatten, read_run_config, to_yaml, validate
from selffilter.errors import UserError
from selffilter.inputs import fingerprints, inputs_of
from selffilter.planning import round_steps, scores_from
from selffilter.store import (
    STAGES,
    RunStore,
    iterate_jsonl,
    link,
    read_object,
    write_json,
    write_jsonl,
    write_text,
)

FIXED = (
    "seed",
    "pool.shards",
    "pool.caption_key",
    "pool.subset",
    "model.name",
    "model.pretrained",
    "model.unlocked_image_groups",
    "model.unlocked_text_groups",
    "train.global_batch_size",
    "select.probe_fraction",
    "select.probe_max_rows",
    "score.weights",
)
"""What both runs must have alike."""


def fork(source: RunStore, config: Config, from_round: int) -> RunStore:
    """Begin a run that shares the rounds up to the training of `from_round` with another.

    Rounds before it are taken over whole (hard links), of that round the training, and its scores
    if both runs score alike. So the new run's config has, for the rounds before it, the fractions
    by which they were selected, whatever it is given.

    Args:
        source: The run to branch off from.
        config: The new run's config, with another name.
        from_round: The last round whose training is shared.

    Raises:
        UserError: If that round is not trained, or the two configs do not fit up to there.
    """
    store = RunStore(config.run_dir)
    if store.config_path.exists():
        raise UserError(f"{store.root} exists already: choose another name.")
    if not source.is_done(from_round, "train"):
        raise UserError(f"{source.root} has not finished the training of round {from_round}.")
    old = read_run_config(source.config_path)
    refuse_misfit(old, config, from_round)
    record = read_object(source.root / "environment.json")
    pinned = record["pool"]
    config = _with_fractions_of(old, config, from_round)

    shared = [(r, stage) for r in range(from_round) for stage in STAGES] + [(from_round, "train")]
    model_scores = scores_from(old, from_round) == scores_from(config, from_round) == "model"
    alike = old.score == config.score and all(
        getattr(old.select, need) == getattr(config.select, need)
        for need in ("needs_embeddings", "needs_hashes")
    )
    if model_scores and alike and source.is_done(from_round, "score"):
        shared.append((from_round, "score"))
    for round_, stage in shared:
        folder = source.stage(round_, stage)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            link(path, store.stage(round_, stage) / path.relative_to(folder))
    for round_ in range(from_round + 1):
        records = iterate_jsonl(source.round(round_) / "metrics.jsonl")
        kept = [r for r in records if round_ < from_round or r["stage"] in ("train", "evaluate")]
        write_jsonl(store.round(round_) / "metrics.jsonl", kept)
    origin = {"run": str(Path(source.root).resolve()), "round": from_round}
    # Of the new run's own inputs: it may score otherwise.
    recipe = find_recipe(config.model.name, config.model.pretrained)
    not_its_own = {*inputs_of(config, recipe), "continued", "moved"}
    common = {k: value for k, value in record.items() if k not in not_its_own}
    own = fingerprints(config, recipe) | {"pool": pinned, "forked_from": origin}
    write_json(store.root / "environment.json", common | own)
    write_text(store.config_path, to_yaml(config))
    return store


def refuse_misfit(old: Config, new: Config, from_round: int) -> None:
    """Refuse a fork that would not be the run it claims to be.

    Raises:
        UserError: Naming the field in which two configs do not fit up to `from_round`.
    """
    a, b = flatten(old), flatten(new)
    for key in FIXED:
        if a[key] != b[key]:
            raise UserError(f"a fork keeps {key}={a[key]!r}; {b[key]!r} needs a run of its own.")
    for key in FRESH:
        shared = [sorted({r for r in c[key] if r <= from_round}) for c in (a, b)]
        if shared[0] != shared[1]:
            raise UserError(
                f"of rounds 0 to {from_round}, which are shared, {shared[0] or 'none'} began anew "
                f"by {key}: {b[key]} needs a run of its own."
            )
    if from_round >= new.rounds.count:
        raise UserError(f"the new run has {new.rounds.count} rounds: none is number {from_round}.")
    ends = [round_steps(config)[from_round].end for config in (old, new)]
    if ends[0] != ends[1]:
        raise UserError(
            f"round {from_round} ends at step {ends[0]} in the run to fork and at step {ends[1]} "
            "in the new one: rounds.samples_seen, count and bootstrap_fraction must fit."
        )


def _with_fractions_of(old: Config, new: Config, from_round: int) -> Config:
    """Return `new` with the fractions of `old` for the rounds before `from_round`."""
    if not from_round:
        return new
    rounds = range(new.rounds.count)
    source = [old if round_ < from_round else new for round_ in rounds]
    select = dataclasses.replace(
        new.select,
        keep_fraction=[source[r].select.keep(r) for r in rounds],
        diverse_fraction=[source[r].select.diverse(r) for r in rounds],
    )
    made = dataclasses.replace(new, select=select)
    validate(made)
    return made
