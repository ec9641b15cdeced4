"""The loss scale of fp16, whose smallest gradients would otherwise be lost.

As torch's ``GradScaler``: the loss is multiplied by a power of two and the gradient divided by it;
where the gradient overflows the step is skipped and the scale halved, and it is doubled after a
while without. Here it is part of a checkpoint, and the host is never asked.
"""

from __future__ import annotations

import torch
from torch import Tensor

INITIAL = 2.0**16
GROWTH_INTERVAL = 2000


class LossScale:
    """A number by which the loss is multiplied, and the rule by which it changes.

    Attributes:
        scale: () float32.
        good_steps: Steps without an overflow since the scale was changed, () float32.
    """

    def __init__(self, device: torch.device, scale: float = INITIAL, good_steps: int = 0) -> None:
        self.scale = torch.tensor(scale, device=device)
        self.good_steps = torch.tensor(float(good_steps), device=device)

    def unscale_(self, gradients: list[Tensor]) -> None:
        """Divide gradients by the scale."""
        torch._foreach_mul_(gradients, self.scale.reciprocal())

    @property
    def is_to_blame(self) -> Tensor:
        """Whether an overflow may be the scale's doing, 1.0 or 0.0: it can still be lowered."""
        return (self.scale > 1).float()

    def update(self, overflowed: Tensor) -> None:
        """Change the scale after a step.

        Args:
            overflowed: 1.0 if the gradient was not finite, else 0.0, on the scale's device.
        """
        good_steps = (self.good_steps + 1) * (1 - overflowed)
        grows = (good_steps >= GROWTH_INTERVAL).float()
        self.scale = self.scale * (1 - 0.5 * overflowed) * (1 + grows)
        self.good_steps = good_steps * (1 - grows)

    def state(self) -> tuple[float, int]:
        """Return scale and good steps, for a checkpoint."""
        return float(self.scale), int(self.good_steps)
