"""A model as training begins with it: its weights, what of it is locked, what it recomputes."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from selffilter.clip.checkpoint import fill, open_checkpoint, read_weights
from selffilter.clip.flops import patch_dropouts
from selffilter.clip.model import ClipRecipe
from selffilter.config import ModelConfig
from selffilter.errors import UserError

_CANNOT = (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What open_clip and timm raise for what an architecture does not have."""


def build_to_train(
    recipe: ClipRecipe, asked: ModelConfig, *, fresh: bool, device: str = "cpu"
) -> nn.Module:
    """Build a model to train.

    Args:
        recipe: The architecture.
        asked: What of it is to be locked, dropped and recomputed, and where it begins.
        fresh: Whether it gets the weights that it begins with: those of ``asked.pretrained``, or
            else those drawn from torch's generator. If not, its weights are of no meaning.
        device: Where it goes; "meta" to see whether it can be built.

    Raises:
        UserError: If the architecture cannot do what is asked, or the weights are not of it.
    """
    model = _with_patch_dropout(recipe, asked.patch_dropout, device)
    if fresh and asked.pretrained is not None:
        fill(model, pretrained_weights(recipe, asked.pretrained), recipe.name)
    lock(model, asked)
    if asked.gradient_checkpointing:
        try:
            model.set_grad_checkpointing()  # type: ignore[operator]
        except _CANNOT as error:
            raise _cannot("model.gradient_checkpointing=true", recipe.name, error) from error
    return model


def pretrained_weights(recipe: ClipRecipe, pretrained: str) -> dict[str, Tensor]:
    """Read the weights that a model is to begin with; they fit the architecture exactly.

    Args:
        recipe: The architecture.
        pretrained: The path of a file (safetensors, or a checkpoint of open_clip's, read
            weights-only), or one of open_clip's tags for this architecture.

    Raises:
        UserError: If there are none, or they are of another architecture.
    """
    try:
        if not Path(pretrained).is_file():
            return open_checkpoint(f"{recipe.name}:{pretrained}").model.state_dict()
        weights = read_weights(Path(pretrained))
        with torch.device("meta"):
            shell = recipe.build("meta")
        fill(shell, weights, recipe.name)
    except UserError as error:
        raise UserError(f"model.pretrained={pretrained}: {error}") from error
    return weights


def lock(model: nn.Module, asked: ModelConfig) -> None:
    """Lock a tower but for its last groups, as open_clip does it.

    Raises:
        UserError: If the tower cannot be locked so, or is not still when it is: with batch norm.
    """
    image, text = asked.unlocked_image_groups, asked.unlocked_text_groups
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Importing from timm")  # open_clip does (3.3.0)
        if image is not None:
            for name, module in model.visual.named_modules():  # type: ignore[operator, union-attr]
                if isinstance(module, _BatchNorm):
                    raise UserError(
                        f"model.unlocked_image_groups={image}: the image tower has batch norm "
                        f"({name}), whose running statistics would go on changing. Set it to null, "
                        "or take a model with layer norm."
                    )
            try:
                model.lock_image_tower(unlocked_groups=image)  # type: ignore[operator]
            except _CANNOT as error:
                raise _cannot(f"model.unlocked_image_groups={image}", "", error) from error
        if text is not None:
            try:
                model.lock_text_tower(unlocked_layers=text)  # type: ignore[operator]
            except _CANNOT as error:
                raise _cannot(f"model.unlocked_text_groups={text}", "", error) from error


def _with_patch_dropout(recipe: ClipRecipe, share: float | None, device: str) -> nn.Module:
    field = f"model.patch_dropout={share}"
    try:
        with torch.device(device):
            model = recipe.build(device, patch_dropout=share)
    except _CANNOT as error:
        if share is None:
            raise
        raise _cannot(field, recipe.name, error) from error
    if share and not any(dropout.prob == share for dropout in patch_dropouts(model)):
        raise _cannot(field, recipe.name, None)
    return model


def _cannot(field: str, name: str, error: Exception | None) -> UserError:
    why = f" ({(str(error).strip() or type(error).__name__).splitlines()[0]})" if error else ""
    return UserError(
        f"{field}: the model{' ' + name if name else ''} cannot do this{why}. Set it to its "
        "default, or take another model."
    )
