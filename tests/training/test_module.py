"""The optimizer step's surroundings that need no data."""

import pytest
import torch
from torch import nn

from selffilter.training.module import ClipTraining, adamw, fresh_ema


@pytest.mark.parametrize("begin", [0, 1000])
def test_the_average_soon_forgets_fresh_weights_also_after_a_restart(begin):
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    module = ClipTraining(
        model, adamw, float, seed=0, first_step=begin, ema=fresh_ema(model), ema_decay=0.999,
        ema_begin=begin,
    )  # fmt: skip
    nn.init.ones_(model.weight)
    left = 1.0
    for t in range(1, 20):
        module.step += 1
        module._update_ema()
        left *= (1 + t) / (10 + t)
        torch.testing.assert_close(module.ema["weight"], torch.full((2, 2), 1 - left))
    assert left < 1e-3


def test_gains_biases_and_the_logit_scale_do_not_decay():
    model = nn.ModuleDict({"ln_1": nn.LayerNorm(4), "fc": nn.Linear(4, 4)})
    model.register_parameter("logit_scale", nn.Parameter(torch.zeros([])))
    still, decayed = adamw(model, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2).param_groups
    assert still["weight_decay"] == 0 and decayed["weight_decay"] == 0.2
    assert [p.shape for p in decayed["params"]] == [(4, 4)]
    assert len(still["params"]) == 4
