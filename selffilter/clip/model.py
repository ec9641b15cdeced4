"""Building, loading and exporting CLIP models, all through open_clip."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from safetensors.torch import load_file, save
from torch import Tensor, nn

from selffilter.errors import UserError
from selffilter.store import read_json, write_atomically, write_json

_CROP_RATIO = 3 / 4
SIGMOID_LOGIT_SCALE = math.log(10)
"""Where the logit scale of a model for the sigmoid loss begins (Zhai et al., 2023)."""

Transform = Callable[[Any], Tensor]
Tokenize = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class ClipRecipe:
    """How to build a model, and how to feed it.

    Attributes:
        name: The architecture's name in open_clip's registry.
        preprocess: Size, mean, std, interpolation, … as in open_clip's preprocess config.
    """

    name: str
    preprocess: dict[str, Any]

    def build(
        self, device: torch.device | str = "cpu", *, patch_dropout: float | None = None
    ) -> nn.Module:
        """Build the model with fresh weights, drawn from torch's generator.

        Args:
            device: Where it goes.
            patch_dropout: Share of the patches dropped in training; None: as the architecture says.
        """
        config = self.model_config
        begins_at = {}
        if config.get("init_logit_bias") is not None and "init_logit_scale" not in config:
            # open_clip's model configs name the bias alone; this its trainer sets by the loss.
            begins_at["init_logit_scale"] = SIGMOID_LOGIT_SCALE
        with quiet():
            model: nn.Module = open_clip.create_model(
                self.name,
                device=device,
                output_dict=True,
                force_patch_dropout=patch_dropout,
                **begins_at,
            )
        return model

    def transform(self, *, crop_scale: float | None = None) -> Transform:
        """Return open_clip's own transform: the random crop of training, or the one of evaluation.

        Args:
            crop_scale: Smallest area of the random crop, as a share of the image's; None: the
                transform of evaluation.

        Returns:
            PIL image → (3, H, W) float32.
        """
        made: Transform = image_transform_v2(
            PreprocessCfg(**self.preprocess),
            is_train=crop_scale is not None,
            aug_cfg={"scale": (crop_scale or 1.0, 1.0)},
        )
        return made

    @property
    def image_size(self) -> int:
        """The side in pixels of what the model sees; the longer one where they differ."""
        size = self.preprocess["size"]
        return int(size if isinstance(size, int) else max(size))

    def shorter_side_needed(self, *, crop_scale: float | None = None) -> int:
        """Return how many pixels an image's shorter side must have for none to be made up.

        Args:
            crop_scale: As in `transform`. The crop of an area A has the sides
                ``sqrt(crop_scale·A·ratio)`` and ``sqrt(crop_scale·A/ratio)``, with ratios of 3/4 to
                4/3 (torchvision's RandomResizedCrop as open_clip has it), and has to fit in: the
                smallest crop of all is that of a square, which is no longer than the square.
        """
        share_of_side = 1.0
        if crop_scale is not None:
            share_of_side = max(crop_scale, math.sqrt(crop_scale * _CROP_RATIO))
        return math.ceil(self.image_size / share_of_side)

    @property
    def tokenize(self) -> Tokenize:
        """The tokenizer: n captions → (n, L) int64."""
        made: Tokenize = open_clip.get_tokenizer(self.name)
        return made

    @property
    def model_config(self) -> dict[str, Any]:
        """The architecture as open_clip's JSON has it."""
        config: dict[str, Any] = open_clip.get_model_config(self.name)
        return config


def find_recipe(name: str, pretrained: str | None = None) -> ClipRecipe:
    """Look up a model to train by open_clip's name, or by the path of a JSON model config.

    Args:
        name: The name, or the path.
        pretrained: A tag of open_clip's for its weights: what they were fed is what they are fed
            (mean, std, interpolation, …). Anything else does not matter here.

    Raises:
        UserError: If open_clip does not know it, or its tokenizer cannot be had.
    """
    name = find_architecture(name)
    with torch.device("meta"), quiet():
        shell = open_clip.create_model(name, device="meta")
    fed = dict(open_clip.get_model_preprocess_cfg(shell))
    if pretrained is not None and not Path(pretrained).is_file():
        published = open_clip.get_pretrained_cfg(name, pretrained) or {}
        fed = merge_preprocess_dict(fed, published) | {"size": fed["size"]}
    recipe = ClipRecipe(name, fed)
    if "hf_tokenizer_name" in recipe.model_config["text_cfg"]:
        _check_tokenizer(recipe)
    return recipe


def _check_tokenizer(recipe: ClipRecipe) -> None:
    try:
        _ = recipe.tokenize
    except ImportError as error:
        raise UserError(
            f"model.name={recipe.name!r} has a tokenizer of Hugging Face's, which needs a package "
            f"that is not here ({error}): pip install transformers sentencepiece."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"model.name={recipe.name!r}: its tokenizer cannot be loaded: {str(error).strip()}"
        ) from error


def find_architecture(name: str, asked_as: str = "model.name") -> str:
    """Return open_clip's name of an architecture: the same, or that of a JSON model config.

    Args:
        name: A name, or a path that ends in ``.json``.
        asked_as: What the user calls it, for errors.

    Raises:
        UserError: If open_clip does not know it.
    """
    if name.endswith(".json"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{asked_as}: there is no model config {name}.")
        config, needed = read_json(path), {"embed_dim", "vision_cfg", "text_cfg"}
        if not isinstance(config, dict) or not needed <= set(config):
            raise UserError(f"{name} is not an open_clip model config (embed_dim, vision_cfg, …).")
        open_clip.add_model_config(path)
        name = path.stem
    if open_clip.get_model_config(name) is None:
        close = [known for known in open_clip.list_models() if name.lower() in known.lower()]
        hint = f" Near it: {', '.join(close[:5])}." if close else ""
        raise UserError(f"{asked_as}={name!r}: open_clip knows no such model.{hint}")
    return name


def encode(model: nn.Module, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Encode pairs without gradients.

    Returns:
        image_features_BD and text_features_BD, unit-norm, float32.
    """
    with torch.no_grad():
        out = model(image, text)
    return _unit(out["image_features"]), _unit(out["text_features"])


def encode_image(model: nn.Module, image: Tensor) -> Tensor:
    """Return image_features_BD, unit-norm, float32, without gradients."""
    with torch.no_grad():
        return _unit(model.encode_image(image))  # type: ignore[operator]


def encode_text(model: nn.Module, text: Tensor) -> Tensor:
    """Return text_features_BD, unit-norm, float32, without gradients."""
    with torch.no_grad():
        return _unit(model.encode_text(text))  # type: ignore[operator]


def temperature(model: nn.Module) -> float:
    """Return τ = 1 / exp(logit_scale)."""
    return float(torch.exp(-model.get_parameter("logit_scale").detach().float()))


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write plain tensors as safetensors that `open_clip.load_checkpoint` reads; atomic."""
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    write_atomically(path, lambda file: file.write(save(plain)))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read weights that `save_weights` wrote."""
    weights: dict[str, Tensor] = load_file(path)
    return weights


def export(folder: Path, recipe: ClipRecipe, weights: dict[str, Tensor]) -> None:
    """Write a folder that open_clip loads as ``local-dir:FOLDER``.

    Written directly: open_clip's `save_for_hf` raises with the built-in tokenizer (3.3.0).
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / "open_clip_model.safetensors", weights)
    described = {"model_cfg": recipe.model_config, "preprocess_cfg": recipe.preprocess}
    write_json(folder / "open_clip_config.json", described)


def _unit(features_BD: Tensor) -> Tensor:
    return nn.functional.normalize(features_BD.float(), dim=-1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence open_clip's warning that fresh weights are fresh."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
