"""The parts of a scorer that both sources share: signals, models, and how they are recorded."""

from __future__ import annotations

from pathlib import Path

import torch

from selffilter.clip.checkpoint import Checkpoint, open_checkpoint
from selffilter.errors import UserError
from selffilter.evaluation.evaluate import EvaluationSettings
from selffilter.scoring.provenance import model_record
from selffilter.scoring.signals.facts import Target
from selffilter.scoring.signals.find import OURS, find_signal
from selffilter.scoring.signals.signal import Need, Signal
from selffilter.standalone.record import Record
from selffilter.standalone.settings import PERMUTATION, ScoreSettings
from selffilter.targets import encode_target, open_target
from selffilter.tracking.console import Screen


def find_signals(settings: ScoreSettings) -> dict[str, Signal]:
    """Return the signals asked for, without `PERMUTATION`, which is no function of a pair.

    Raises:
        UserError: If there is no such signal, or it needs what is not given, or the reverse.
    """
    signals = {
        name: find_signal(name, "--signal") for name in settings.signals if name != PERMUTATION
    }
    needs = needs_of(signals)
    for option, value, need in (
        ("--target", settings.target, "target"),
        ("--reference", settings.reference, "reference"),
    ):
        asking = [name for name, signal in signals.items() if need in signal.needs]
        if asking and value is None:
            raise UserError(f"{asking[0]} needs {option}.")
        if value is not None and need not in needs:
            raise UserError(f"{option} {value}: no signal that is asked for looks at it.")
    return signals


def needs_of(signals: dict[str, Signal]) -> frozenset[Need]:
    """Return what any of them needs."""
    return frozenset().union(*(signal.needs for signal in signals.values()))


def signals_record(settings: ScoreSettings, signals: dict[str, Signal]) -> Record:
    """Return what is recorded of signals: their names, their settings, whose they are."""
    record: Record = {"signals": [*settings.signals, *settings.columns]}
    foreign = {name: signal for name, signal in signals.items() if name not in OURS}
    if foreign:
        record["code"] = {
            name: f"{type(signal).__module__}.{type(signal).__name__}"
            for name, signal in foreign.items()
        }
    if needs_of(signals) & {"bank", "moments"}:
        record["bank"] = {"size": settings.bank_size, "seed": settings.seed}
    if PERMUTATION in settings.signals:
        record["permutation"] = {
            "batch_size": settings.permutation_batch,
            "draws": settings.draws,
            "seed": settings.seed,
        }
    return record


def open_scorer(
    spec: str, device: torch.device, temperature_asked: float | None = None
) -> Checkpoint:
    """Open a model to score with; with a temperature of the user's in place of its own.

    Raises:
        UserError: If there is no such model.
    """
    found = open_checkpoint(spec, device)
    if temperature_asked is not None:
        with torch.no_grad():
            scale = found.model.get_parameter("logit_scale")
            scale.fill_(-torch.log(torch.tensor(temperature_asked, dtype=torch.float64)))
    return found


def checkpoint_record(found: Checkpoint) -> Record:
    """Return what is recorded of a model; its name is for people, the rest must agree."""
    name = ":".join(filter(None, (found.name, found.pretrained)))
    return model_record(name, found.fingerprint, found.model, found.recipe)


def encode_target_set(
    spec: str, scorer: Checkpoint, settings: ScoreSettings, screen: Screen, max_pixels: int
) -> Target:
    """Encode a set in CLIP_benchmark's layout by the model that scores.

    Raises:
        UserError: If there is no such set, or nothing in it is usable.
    """
    how = EvaluationSettings(
        settings.batch_size, settings.workers, settings.autocast, max_pixels=max_pixels
    )
    screen.say(f"encoding the target set {spec}")
    return encode_target(scorer.model, scorer.recipe, open_target(spec), how)


def target_set_record(spec: str, signals: dict[str, Signal]) -> Record:
    """Return what is recorded of a set in CLIP_benchmark's layout.

    Raises:
        UserError: If there is no such set, or a signal looks at captions that it does not have.
    """
    data = open_target(spec)
    if data.kind != "retrieval":
        refuse_without_captions(f"--target {spec} is a {data.kind} set", signals)
    return {
        "name": data.name,
        "location": data.location,
        "split": data.split,
        "fingerprint": data.fingerprint,
    }


def refuse_without_captions(what: str, signals: dict[str, Signal]) -> None:
    """Refuse signals that look at a target's captions, where it has none.

    Raises:
        UserError: If there is such a signal.
    """
    for name, signal in signals.items():
        if "target_captions" in signal.needs:
            raise UserError(f"{what} and has no captions, which {name} looks at.")


def is_embeddings(spec: str) -> bool:
    """Whether what a user names is ready embeddings, and not shards or an evaluation set."""
    folder = Path(spec)
    return (
        (folder / "embeddings.json").exists()
        or (folder / "img_emb").is_dir()
        or (folder.is_dir() and any(folder.glob("*.npz")))
    )
