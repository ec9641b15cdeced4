"""torch.compile, in place: names of weights stay what they are."""

from __future__ import annotations

from torch import nn

_TOWERS = ("visual", "text", "transformer")


def compile_towers(model: nn.Module) -> None:
    """Compile both towers of a model of open_clip's, when they are first called.

    Each by itself, so that it holds however the model is called (``forward``, ``encode_image``),
    and so that DDP may send the gradient of one while that of the other is computed. Random
    numbers are those of the model that is not compiled, whether there is a graph or not:
    micro-batches are encoded without one first.
    """
    for name in _TOWERS:
        tower = getattr(model, name, None)
        if isinstance(tower, nn.Module):
            tower.compile(options={"fallback_random": True})
