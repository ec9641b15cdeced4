import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from open_clip.loss import ClipLoss, SigLipLoss
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from selffilter.clip.losses import contrastive_loss, gather

B, D = 8, 5
LOG_SCALE = {"softmax": math.log(1 / 0.07), "sigmoid": math.log(10)}
BIAS = -3.0
LOSSES = tuple(LOG_SCALE)
VALID = {
    "all": [1] * 8,
    "unevenly": [1, 0, 1, 1, 0, 0, 0, 1],
    "only on the second rank": [0, 0, 0, 0, 1, 1, 0, 1],
    "a single row": [0, 1, 0, 0, 0, 0, 0, 0],
}


def leaves(name):
    """Return raw image and text features, the log of the scale and, for the sigmoid, the bias."""
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, B, D, generator=generator, dtype=torch.float64)
    scale, bias = (torch.tensor(x, dtype=torch.float64) for x in (LOG_SCALE[name], BIAS))
    found = [image, text, scale, bias] if name == "sigmoid" else [image, text, scale]
    return [leaf.requires_grad_() for leaf in found]


def our_loss(valid, image, text, log_scale, bias=None, rows_at_once=None):
    outputs = {
        "image_features": F.normalize(image, dim=-1),
        "text_features": F.normalize(text, dim=-1),
        "logit_scale": log_scale.exp(),
    }
    return contrastive_loss(
        outputs if bias is None else outputs | {"logit_bias": bias}, valid, rows_at_once
    )


def open_clip_loss(valid, image, text, log_scale, bias=None):
    """Return open_clip's loss of the batch that has only the valid rows."""
    kept = F.normalize(image[valid], dim=-1), F.normalize(text[valid], dim=-1)
    if bias is None:
        return ClipLoss()(*kept, log_scale.exp())
    return SigLipLoss()(*kept, log_scale.exp(), bias)


def loss_and_gradients(loss_of, name, valid, **options):
    inputs = leaves(name)
    loss = loss_of(torch.tensor(valid, dtype=torch.bool), *inputs, **options)
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in inputs)]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("valid", VALID.values(), ids=VALID)
def test_loss_and_gradients_are_open_clips_on_the_batch_without_its_invalid_rows(name, valid):
    ours, theirs = (loss_and_gradients(f, name, valid) for f in (our_loss, open_clip_loss))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-12, atol=1e-13)
    if sum(valid) > 1:
        assert all(gradient.abs().max() > 1e-3 for gradient in ours)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("rows_at_once", [1, 3, 8, 100])
def test_how_many_rows_are_compared_at_once_changes_nothing(name, rows_at_once):
    valid = VALID["unevenly"]
    ours = loss_and_gradients(our_loss, name, valid, rows_at_once=rows_at_once)
    for our, their in zip(ours, loss_and_gradients(our_loss, name, valid), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_compared_at_once_bound_what_is_kept_for_the_gradient(name):
    def kept(rows_at_once):
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss_and_gradients(our_loss, name, [1] * B, rows_at_once=rows_at_once)
        return max(sizes)

    assert kept(None) == B * B
    assert kept(2) == B * D  # the features: no logits are kept


@pytest.mark.parametrize("name", LOSSES)
def test_what_stands_in_an_invalid_row_does_not_matter(name):
    valid = torch.tensor(VALID["unevenly"], dtype=torch.bool)
    image, text, *rest = leaves(name)
    before = our_loss(valid, image, text, *rest)
    with torch.no_grad():
        image[~valid], text[~valid] = 7.0, text[valid][0]
    torch.testing.assert_close(our_loss(valid, image, text, *rest), before, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("rows_at_once", [None, 3])
def test_a_batch_without_a_valid_row_gives_zero_and_zero_gradients(name, rows_at_once):
    loss, *gradients = loss_and_gradients(our_loss, name, [0] * B, rows_at_once=rows_at_once)
    assert loss == 0
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_features_are_compared_in_float32(name):
    image, text, *rest = (leaf.detach() for leaf in leaves(name))
    image, text = (F.normalize(f, dim=-1).to(torch.bfloat16) for f in (image, text))
    valid = torch.ones(B, dtype=torch.bool)

    def loss_of(dtype):
        outputs = {"image_features": image.to(dtype), "text_features": text.to(dtype)}
        names = ("logit_scale", "logit_bias")[: len(rest)]
        return contrastive_loss(outputs | dict(zip(names, rest, strict=True)), valid)

    assert loss_of(torch.bfloat16).dtype == torch.float32
    assert float(loss_of(torch.bfloat16)) == pytest.approx(float(loss_of(torch.float64)), rel=1e-5)


def test_alone_gather_is_the_tensor_itself():
    tensor = torch.randn(3, 2)
    assert gather(tensor) is tensor


class Towers(nn.Module):
    """Two linear towers, a scale and perhaps a bias; float64."""

    def __init__(self, name):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        image, text = torch.randn(2, D, 3, generator=generator, dtype=torch.float64)
        self.image, self.text = nn.Parameter(image), nn.Parameter(text)
        self.numbers = nn.ParameterList([nn.Parameter(n.detach()) for n in leaves(name)[2:]])

    def forward(self, image, text):
        return image @ self.image, text @ self.text, *self.numbers


def train_a_part(rank, ranks, folder):
    """Run every validity pattern on one rank under DDP; leave loss and averaged gradients."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks
    )
    part = slice(rank * B // ranks, (rank + 1) * B // ranks)
    results = {}
    for name in LOSSES:
        image, text = (leaf.detach() for leaf in leaves(name)[:2])
        for which, valid in (VALID | {"none": [0] * B}).items():
            model = DistributedDataParallel(Towers(name))
            valid = torch.tensor(valid, dtype=torch.bool)
            loss = our_loss(valid[part], *model(image[part], text[part]))
            loss.backward()
            results[name, which] = [loss.detach(), *(p.grad for p in model.module.parameters())]
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_parts_of_two_ranks_average_to_loss_and_gradients_of_one_process(tmp_path):
    mp.start_processes(train_a_part, (2, str(tmp_path)), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert set(first) == {(name, which) for name in LOSSES for which in [*VALID, "none"]}
    for name, which in first:
        mean_loss = (first[name, which][0] + second[name, which][0]) / 2
        if which == "none":
            expected = [torch.zeros(())] + [torch.zeros_like(g) for g in first[name, which][1:]]
        else:
            model = Towers(name)
            image, text = (leaf.detach() for leaf in leaves(name)[:2])
            valid = torch.tensor(VALID[which], dtype=torch.bool)
            loss = open_clip_loss(valid, *model(image, text))
            loss.backward()
            expected = [loss.detach()] + [p.grad for p in model.parameters()]
        torch.testing.assert_close(mean_loss, expected[0].double(), rtol=0, atol=1e-10)
        for of_rank in (first, second):
            for ours, theirs in zip(of_rank[name, which][1:], expected[1:], strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
