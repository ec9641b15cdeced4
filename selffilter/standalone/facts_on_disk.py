"""What signals must remember, as files: made by one process, read by all, whichever comes first."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from selffilter.clip.model import load_weights, save_weights
from selffilter.scoring.moments import Kind, SecondMoments
from selffilter.scoring.signals.facts import Bank, Target

FOLDER = "facts"
_KINDS: tuple[Kind, ...] = ("image", "text", "cross")


def facts_file(out: Path, name: str) -> Path:
    """Return where something lies in a folder of scores."""
    return out / FOLDER / name


def save_moments(path: Path, moments: SecondMoments) -> None:
    """Write ``count`` and ``sum_KIND`` (D, D) float64, as safetensors."""
    save_weights(path, _plain(moments))


def load_moments(path: Path, device: torch.device | str) -> SecondMoments:
    """Read what `save_moments` wrote."""
    return _moments(load_weights(path), device)


def save_target(path: Path, target: Target) -> None:
    """Write a target set: its moments, and ``image_features_MD`` where they were kept."""
    features = {}
    if target.image_features_MD is not None:
        features["image_features_MD"] = target.image_features_MD
    save_weights(path, _plain(target.moments) | features)


def load_target_file(path: Path, device: torch.device | str) -> Target:
    """Read what `save_target` wrote."""
    read = load_weights(path)
    features = read.get("image_features_MD")
    return Target(_moments(read, device), None if features is None else features.to(device))


def save_bank(path: Path, bank: Bank) -> None:
    """Write a bank as `PoolPass.write_bank` does."""
    tensors = {
        "image_features_MD": bank.image_features_MD,
        "text_features_MD": bank.text_features_MD,
        "row_M": bank.row_M,
    }
    if bank.reference is not None:
        tensors["reference_image_features_MD"] = bank.reference.image_features_MD
        tensors["reference_text_features_MD"] = bank.reference.text_features_MD
    save_weights(path, tensors)


def _plain(moments: SecondMoments) -> dict[str, Tensor]:
    sums = {f"sum_{kind}": sum_DD for kind, sum_DD in moments.sums.items()}
    return {"count": torch.tensor([moments.count]), **sums}


def _moments(read: dict[str, Tensor], device: torch.device | str) -> SecondMoments:
    sums = {kind: read[f"sum_{kind}"].to(device) for kind in _KINDS if f"sum_{kind}" in read}
    return SecondMoments(int(read["count"]), sums)
