"""The loss scale follows torch's GradScaler, and saves what fp16 would lose."""

import pytest
import torch

from selffilter.training import loss_scale
from selffilter.training.loss_scale import LossScale

CPU = torch.device("cpu")


def test_it_goes_up_and_down_as_torchs_own_does(monkeypatch):
    monkeypatch.setattr(loss_scale, "GROWTH_INTERVAL", 3)
    theirs = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
    ours = LossScale(CPU, scale=8.0)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    overflows = [0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    scales = []
    for overflowed in overflows:
        theirs.scale(weight.sum()).backward()
        weight.grad = weight.grad * (float("inf") if overflowed else 1.0)
        theirs.step(optimizer)
        theirs.update()
        optimizer.zero_grad()
        ours.update(torch.tensor(float(overflowed)))
        scales.append(float(ours.scale))
        assert scales[-1] == theirs.get_scale()
    assert len(set(scales)) > 3


def test_gradients_come_back_as_they_were():
    gradients = [torch.tensor([3.0, -1e-5]), torch.tensor(0.5)]
    scale = LossScale(CPU, scale=2.0**12)
    multiplied = [gradient * scale.scale for gradient in gradients]
    scale.unscale_(multiplied)
    assert all(map(torch.equal, multiplied, gradients))


def test_a_gradient_too_small_for_fp16_survives():
    def gradient(scale):
        x = torch.tensor(1.0, requires_grad=True)
        (x.half() * 1e-4 * scale.half()).float().mul(1e-4).backward()
        return x.grad / scale

    assert gradient(torch.tensor(1.0)) != pytest.approx(1e-8, rel=0.1)
    assert gradient(LossScale(CPU).scale / 2) == pytest.approx(1e-8, rel=0.01)


def test_its_state_is_two_numbers():
    scale = LossScale(CPU, 4.0, 17)
    scale.update(torch.tensor(0.0))
    assert scale.state() == (4.0, 18)
    again = LossScale(CPU, *scale.state())
    assert again.state() == scale.state()
