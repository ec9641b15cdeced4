"""A scorer of ready embeddings: what is asked for, and what it is recorded as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from selffilter.clip.checkpoint import Checkpoint
from selffilter.config import PoolConfig
from selffilter.errors import UserError
from selffilter.scoring.embeddings.arrays import StoredArray, describe_npy
from selffilter.scoring.embeddings.embeddings import Embeddings, Part, Side
from selffilter.scoring.embeddings.find import open_embeddings
from selffilter.scoring.embeddings.usable import unusable_rows
from selffilter.scoring.ready import load_target, refuse_other_rows
from selffilter.scoring.signals.facts import Facts, Target
from selffilter.scoring.signals.find import OURS
from selffilter.scoring.signals.signal import Need, Signal
from selffilter.standalone.record import Record, files_fingerprint
from selffilter.standalone.scorers import (
    checkpoint_record,
    encode_target_set,
    find_signals,
    is_embeddings,
    needs_of,
    open_scorer,
    refuse_without_captions,
    signals_record,
    target_set_record,
)
from selffilter.standalone.settings import PERMUTATION, ScoreSettings
from selffilter.tracking.console import Screen

OPENAI_TEMPERATURE = 0.01
"""τ of OpenAI's CLIP models, whose embeddings DataComp's metadata and most others are."""

_OF_IMAGES_ALONE = (
    "norm_sim_2",
    "norm_sim_inf",
    "variance_alignment_image",
    "variance_alignment_image_traindata",
)


@dataclass(frozen=True)
class TargetOfEmbeddings:
    """A target set for ready embeddings: its own, or pictures and the model to encode them.

    Attributes:
        spec: How the user names it.
        record: What is recorded of it.
        embeddings: Those of the target; None for pictures.
        model: What encodes pictures; None for embeddings.
    """

    spec: str
    record: Record
    embeddings: Embeddings | None = None
    model: Checkpoint | None = None

    def encode(self, scorer: ReadyScorer, device: torch.device, screen: Screen) -> Target:
        """Return the target set on the device."""
        if self.model is not None:
            most = PoolConfig.max_image_pixels
            return encode_target_set(self.spec, self.model, scorer.settings, screen, most)
        assert self.embeddings is not None
        usable_M = unusable_rows(self.embeddings) == 0
        features = any(_looks_at_features(*named) for named in scorer.signals.items())
        return load_target(self.embeddings, usable_M, keep_features=features, device=device)


@dataclass(frozen=True)
class ReadyScorer:
    """What is asked for of a folder of embeddings.

    Attributes:
        embeddings: Of the pool.
        reference: Of the same rows, by a reference model.
        target: The target set.
        signals: Name → signal; without `PERMUTATION`.
        settings: The rest.
        facts: What is known without looking at an embedding: temperatures.
        out: The folder of scores.
    """

    embeddings: Embeddings
    reference: Embeddings | None
    target: TargetOfEmbeddings | None
    signals: dict[str, Signal]
    settings: ScoreSettings
    facts: Facts
    out: Path

    @classmethod
    def open(
        cls, folder: Path, out: Path, settings: ScoreSettings, device: torch.device
    ) -> ReadyScorer:
        """Open everything that is named.

        Raises:
            UserError: If something is not there, does not fit, or has no meaning here.
        """
        _refuse_options_of_pools(settings)
        signals = find_signals(settings)
        embeddings = _open(folder, settings)
        _refuse_what_is_not_there(embeddings, signals, settings)
        reference = None
        if settings.reference is not None:
            reference = _open(Path(settings.reference), settings)
            refuse_other_rows(embeddings, reference)
        target = None
        if settings.target is not None:
            target = _open_target(settings.target, embeddings, signals, settings, device)
        facts = _temperatures(embeddings, reference, target, signals, settings)
        return cls(embeddings, reference, target, signals, settings, facts, out)

    @property
    def needs(self) -> frozenset[Need]:
        """What the signals need."""
        return needs_of(self.signals)

    @property
    def permutes(self) -> bool:
        """Whether `PERMUTATION` is asked for."""
        return PERMUTATION in self.settings.signals

    @property
    def looks_at_embeddings(self) -> bool:
        """Whether more is asked for than columns that came with them."""
        return bool(self.settings.signals)

    def record(self) -> Record:
        """Return what is recorded of the scorer."""
        record: Record = signals_record(self.settings, self.signals)
        if self.settings.columns:
            record["columns"] = list(self.settings.columns)
        if self.looks_at_embeddings:
            record["embeddings"] = embeddings_record(self.embeddings)
        if "bank" in self.needs or self.permutes:
            record["temperature"] = self.facts.temperature
            record["logit_bias"] = self.facts.logit_bias
        if self.reference is not None and self.facts.reference is not None:
            theirs = {"temperature": self.facts.reference.temperature}
            record["reference"] = embeddings_record(self.reference) | theirs
        if self.target is not None:
            record["target"] = self.target.record
        return record


def source_of(embeddings: Embeddings) -> Record:
    """Return what is recorded of whose rows some embeddings are.

    Ours that were made of a pool are of that pool's rows; others are of their tables' rows.
    """
    source = _made_by(embeddings).get("source")
    if isinstance(source, dict):
        return source
    return {
        "kind": "embeddings",
        "format": embeddings.description["format"],
        "name": embeddings.folder.name,
        "fingerprint": files_fingerprint(part.table for part in embeddings.parts),
        "rows": embeddings.rows,
        "shards": len(embeddings.parts),
    }


def embeddings_record(embeddings: Embeddings) -> Record:
    """Return what is recorded of embeddings: who made them, and that they are still the same."""
    arrays = dict.fromkeys(a.path for part in embeddings.parts for a in part.arrays.values())
    return {
        "location": str(embeddings.folder),
        **embeddings.description,
        "sides": list(embeddings.sides),
        "width": embeddings.width,
        "fingerprint": files_fingerprint(arrays),
    }


def _made_by(embeddings: Embeddings) -> dict[str, Any]:
    made_by = embeddings.description.get("made_by")
    return made_by if isinstance(made_by, dict) else {}


def _model_of(embeddings: Embeddings) -> dict[str, Any]:
    model = _made_by(embeddings).get("model")
    return model if isinstance(model, dict) else {}


def _temperatures(
    embeddings: Embeddings,
    reference: Embeddings | None,
    target: TargetOfEmbeddings | None,
    signals: dict[str, Signal],
    settings: ScoreSettings,
) -> Facts:
    """Return τ and logit bias: the user's, the model's, or else OpenAI's."""
    used = "bank" in needs_of(signals) or PERMUTATION in settings.signals
    model = _model_of(embeddings)
    if target is not None and target.model is not None:
        model = checkpoint_record(target.model)
    if settings.temperature is not None:
        model = model | {"temperature": settings.temperature}
    theirs = None
    if reference is not None:
        their_model = _model_of(reference)
        theirs = Facts(
            _temperature(reference, their_model, used), logit_bias=their_model.get("logit_bias")
        )
    temperature = _temperature(embeddings, model, used)
    return Facts(temperature, logit_bias=model.get("logit_bias"), reference=theirs)


def _temperature(embeddings: Embeddings, model: dict[str, Any], used: bool) -> float:
    if "temperature" in model:
        return float(model["temperature"])
    formats = (embeddings.description["format"], _made_by(embeddings).get("format"))
    if used and formats[0] == "selffilter" and formats[1] is None:
        raise UserError(
            f"{embeddings.folder} does not say by which model its embeddings are: give the "
            "model's temperature with --temperature."
        )
    return OPENAI_TEMPERATURE


def _refuse_options_of_pools(settings: ScoreSettings) -> None:
    for option, given in (
        ("--caption-key", settings.caption_key),
        ("--index-dir", settings.index_dir),
        ("--allow-pipe", settings.allow_pipe),
        ("--embeddings", settings.keep_embeddings),
    ):
        if given:
            raise UserError(f"{option} is about a pool's shards: these are ready embeddings.")
    pictures = settings.target is not None and not _is_ready(settings.target)
    if settings.model is not None and not pictures:
        raise UserError(
            f"--model {settings.model}: ready embeddings are scored without one. It is for "
            "encoding a --target of pictures, by the model that the embeddings are of."
        )
    if settings.model is None and pictures:
        raise UserError(
            f"--target {settings.target} is a set of pictures: say with --model which model the "
            "embeddings are of, or give the target's embeddings (a folder, or an .npy)."
        )


def _refuse_what_is_not_there(
    embeddings: Embeddings, signals: dict[str, Signal], settings: ScoreSettings
) -> None:
    for name, signal in signals.items():
        if "flipped" in signal.needs:
            raise UserError(f"{name} looks at mirrored images: embeddings do not have them.")
    captions = [n for n in settings.signals if n in OURS and n not in _OF_IMAGES_ALONE]
    captions += [PERMUTATION] if PERMUTATION in settings.signals else []
    if captions and "text" not in embeddings.sides:
        raise UserError(
            f"{captions[0]} looks at captions: {embeddings.folder} has no text embeddings."
        )
    if settings.columns:
        first = next(part for part in embeddings.parts if part.rows)
        alone = Embeddings(embeddings.folder, [first], embeddings.description)
        for name in settings.columns:
            alone.column(name)


def _is_ready(spec: str) -> bool:
    return is_embeddings(spec) or spec.endswith(".npy")


def _open(folder: Path, settings: ScoreSettings) -> Embeddings:
    return open_embeddings(folder, cast(Literal["b32", "l14"], settings.datacomp_model))


def _open_target(
    spec: str,
    embeddings: Embeddings,
    signals: dict[str, Signal],
    settings: ScoreSettings,
    device: torch.device,
) -> TargetOfEmbeddings:
    if _is_ready(spec):
        theirs = _images(Path(spec)) if spec.endswith(".npy") else _open(Path(spec), settings)
        width = theirs.width
        if "text" not in theirs.sides:
            refuse_without_captions(f"--target {spec} is of images alone", signals)
        made = [_model_of(each).get("fingerprint") for each in (embeddings, theirs)]
        if None not in made and made[0] != made[1]:
            raise UserError(
                f"{theirs.folder} and {embeddings.folder} are embeddings by different weights: "
                f"{made[1]} and {made[0]}."
            )
        found = TargetOfEmbeddings(spec, embeddings_record(theirs), embeddings=theirs)
    else:
        model = open_scorer(str(settings.model), device)
        width = int(model.recipe.model_config["embed_dim"])
        record = target_set_record(spec, signals) | {"model": checkpoint_record(model)}
        found = TargetOfEmbeddings(spec, record, model=model)
    if width != embeddings.width:
        raise UserError(
            f"--target {spec} has embeddings of width {width}, and {embeddings.folder} of width "
            f"{embeddings.width}: they are of different models."
        )
    return found


def _images(path: Path) -> Embeddings:
    """Open a matrix of image embeddings that has no table beside it."""
    arrays: dict[Side, StoredArray] = {"image": describe_npy(path)}
    rows = arrays["image"].shape[0]
    part = Part(path, arrays, rows, lambda: np.zeros((rows, 2), np.uint64))
    return Embeddings(path, [part], {"format": "npy"})


def _looks_at_features(name: str, signal: Signal) -> bool:
    """Whether a signal looks at a target's features and not at its moments alone."""
    ours = type(signal).__module__.startswith("selffilter.scoring.")
    return name == "norm_sim_inf" or not ours
