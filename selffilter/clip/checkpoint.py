"""Opening a trained model: a run's, an open_clip folder, a file of weights, a published one."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from selffilter.clip.model import ClipRecipe, find_architecture, find_recipe, quiet
from selffilter.config import Config, read_run_config
from selffilter.errors import UserError

CONFIG = "open_clip_config.json"
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
"""Names of the weights in an open_clip folder, the first there is."""

_NAMED = 3
_WAYS = (
    "a run directory, weights of its rounds (RUN/rounds/RRR/train/model.safetensors), an open_clip "
    "folder, ARCHITECTURE:FILE, ARCHITECTURE:TAG (as open_clip lists them) or hf-hub:OWNER/NAME"
)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, open.

    Attributes:
        name: What open_clip and CLIP_benchmark call the model.
        pretrained: The tag or file of its weights; "" where the name says it all.
        recipe: How to feed it.
        model: In eval mode.
        fingerprint: 32 hex digits that change with any weight.
    """

    name: str
    pretrained: str
    recipe: ClipRecipe
    model: nn.Module
    fingerprint: str


def open_checkpoint(spec: str, device: torch.device | str = "cpu") -> Checkpoint:
    """Open what the user names.

    Args:
        spec: A run directory (its ``final/``); ``RUN/rounds/RRR/train/model.safetensors``; a
            folder of `CONFIG` and one of `WEIGHTS`;
            ``ARCHITECTURE:FILE`` or ``ARCHITECTURE:TAG``, the architecture by open_clip's name or
            as the path of a JSON model config; ``local-dir:FOLDER``; ``hf-hub:OWNER/NAME``.
        device: Where it goes.

    Raises:
        UserError: If there is no such model, or the weights are of another architecture.
    """
    scheme, _, rest = spec.partition(":")
    pretrained = ""
    if Path(spec).is_dir() or scheme == "local-dir":
        folder = _model_folder(Path(rest if scheme == "local-dir" else spec))
        name = f"local-dir:{folder.resolve()}"
        model = _build(name, load_weights=False)
        fill(model, read_weights(_weights_in(folder)), f"{folder}/{CONFIG}")
    elif (run_config := _run_config_of(Path(spec))) is not None:
        recipe = find_recipe(run_config.model.name, run_config.model.pretrained)
        name, pretrained, model = recipe.name, spec, recipe.build()
        fill(model, read_weights(Path(spec)), name)
        return _opened(name, pretrained, recipe, model, device)
    elif scheme == "hf-hub":
        name = spec
        model = _build(name, require_pretrained=True)
    elif rest:
        name, pretrained = find_architecture(scheme, "architecture"), rest
        if Path(rest).is_file():
            model = _build(name, load_weights=False)
            fill(model, read_weights(Path(rest)), name)
        else:
            model = _published(name, rest)
    else:
        raise UserError(f"{spec!r} is no model: name {_WAYS}.")
    recipe = ClipRecipe(name, dict(open_clip.get_model_preprocess_cfg(model)))
    return _opened(name, pretrained, recipe, model, device)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a file: safetensors, or what torch reads without unpickling objects.

    A state dict may lie under ``state_dict``, and DDP's prefix ``module.`` may be before its names:
    so open_clip writes them.

    Raises:
        UserError: If there are none in it.
    """
    try:
        if path.suffix == ".safetensors":
            loaded: Any = load_file(path)
        else:
            _refuse_packed(path)
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, and objects are never unpickled. Save the state "
            "dict alone, or as safetensors."
        ) from error
    except Exception as error:  # torch's unpickler: IndexError, KeyError, TypeError, … (2.15)
        raise UserError(f"{path} cannot be read as weights: {_first_line(error)}") from error
    if isinstance(loaded, dict):
        loaded = loaded.get("state_dict", loaded)
    if not isinstance(loaded, dict) or not loaded:
        raise UserError(f"{path} holds no weights.")
    strange = [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]
    if strange:
        raise UserError(f"{path} is no dict of weights: it has {_some(strange)}.")
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}


def _refuse_packed(path: Path) -> None:
    """Refuse a file that unpacks to more than it is: torch writes all of its records unpacked.

    Raises:
        ValueError: If a record is packed.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(info.file_size > info.compress_size for info in archive.infolist()):
                raise ValueError("it is packed, which torch.save never does")


def fill(model: nn.Module, weights: dict[str, Tensor], architecture: str) -> None:
    """Load weights that must fit exactly.

    Raises:
        UserError: Naming what is missing, unexpected, or of another shape.
    """
    expected = model.state_dict()
    weights = {
        # open_clip has kept its logit scale both as a number and as a vector of one.
        key: value.reshape(expected[key].shape)
        if key in expected and value.numel() == expected[key].numel() == 1
        else value
        for key, value in weights.items()
    }
    problems = {
        "missing": [key for key in expected if key not in weights],
        "unexpected": [key for key in weights if key not in expected],
        "of another shape": [
            f"{key} {_shape(weights[key])} for {_shape(value)}"
            for key, value in expected.items()
            if key in weights and weights[key].shape != value.shape
        ],
    }
    said = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in problems.items() if keys]
    if said:
        listed = "; ".join(said)
        raise UserError(f"these weights are not of the architecture {architecture}: {listed}.")
    model.load_state_dict(weights)


def fingerprint(weights: dict[str, Tensor]) -> str:
    """Return 32 hex digits that change with any name, type, shape or value, not with the order."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _opened(
    name: str, pretrained: str, recipe: ClipRecipe, model: nn.Module, device: torch.device | str
) -> Checkpoint:
    weights = fingerprint(model.state_dict())
    return Checkpoint(name, pretrained, recipe, model.to(device).eval(), weights)


def _run_config_of(path: Path) -> Config | None:
    """Return the config of the run that weights lie in (RUN/rounds/RRR/train/FILE), if any."""
    if not path.is_file() or len(path.absolute().parents) < 5:
        return None
    config = path.absolute().parents[3] / "config.yaml"
    if path.absolute().parents[2].name != "rounds" or not config.is_file():
        return None
    return read_run_config(config)


def _model_folder(folder: Path) -> Path:
    if (folder / CONFIG).is_file():
        return folder
    if (folder / "final" / CONFIG).is_file():
        return folder / "final"
    if (folder / "config.yaml").is_file():
        raise UserError(
            f"{folder} is a run that is not finished: it has no final/. Finish it, or name the "
            "weights of a round: RUN/rounds/RRR/train/model.safetensors."
        )
    raise UserError(f"{folder} is neither a run directory nor an open_clip folder with {CONFIG}.")


def _weights_in(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has no weights ({', '.join(WEIGHTS)}).")


def _published(name: str, tag: str) -> nn.Module:
    config = open_clip.get_pretrained_cfg(name, tag)
    if not config:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise UserError(
            f"{name}:{tag}: there is no file {tag}, and open_clip knows no such weights. "
            + (f"It knows {', '.join(tags)}." if tags else "It knows none of this model.")
        )
    quick_gelu = bool(config.get("quick_gelu"))
    if quick_gelu != bool(open_clip.get_model_config(name).get("quick_gelu")):
        # open_clip only warns, and computes something else than was trained.
        other = f"{name}-quickgelu" if quick_gelu else name.removesuffix("-quickgelu")
        raise UserError(f"{name}:{tag} was trained with another activation: use {other}:{tag}.")
    return _build(name, pretrained=tag, require_pretrained=True)


def _build(name: str, **options: Any) -> nn.Module:
    try:
        with quiet():
            model: nn.Module = open_clip.create_model(
                name, output_dict=True, weights_only=True, pretrained_text=False, **options
            )
    except Exception as error:  # a strange config ends in any error, a download in many
        raise UserError(f"open_clip cannot make {name}: {_first_line(error)}") from error
    return model


def _some(names: list[str]) -> str:
    more = f", … {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
