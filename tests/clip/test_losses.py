import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from open_clip.loss import ClipLoss
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from selffilter.clip.losses import contrastive_loss, gather

B, D = 8, 5
LOG_SCALE = math.log(1 / 0.07)
VALID = {
    "all": [1] * 8,
    "unevenly": [1, 0, 1, 1, 0, 0, 0, 1],
    "only on the second rank": [0, 0, 0, 0, 1, 1, 0, 1],
    "a single row": [0, 1, 0, 0, 0, 0, 0, 0],
}


def leaves(seed=0):
    """Return raw image features, raw text features and the log of the scale, as leaves."""
    generator = torch.Generator().manual_seed(seed)
    image, text = torch.randn(2, B, D, generator=generator, dtype=torch.float64)
    scale = torch.tensor(LOG_SCALE, dtype=torch.float64)
    return [leaf.requires_grad_() for leaf in (image, text, scale)]


def our_loss(image, text, log_scale, valid):
    return contrastive_loss(
        F.normalize(image, dim=-1), F.normalize(text, dim=-1), log_scale.exp(), valid
    )


def open_clip_loss(image, text, log_scale, valid):
    """Return open_clip's loss of the batch that has only the valid rows."""
    kept = F.normalize(image[valid], dim=-1), F.normalize(text[valid], dim=-1)
    return ClipLoss()(*kept, log_scale.exp())


def loss_and_gradients(loss_of, valid):
    inputs = leaves()
    loss = loss_of(*inputs, torch.tensor(valid, dtype=torch.bool))
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in inputs)]


@pytest.mark.parametrize("valid", VALID.values(), ids=VALID)
def test_loss_and_gradients_are_open_clips_on_the_batch_without_its_invalid_rows(valid):
    ours, theirs = (loss_and_gradients(f, valid) for f in (our_loss, open_clip_loss))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-12, atol=1e-13)
    if sum(valid) > 1:
        assert all(gradient.abs().max() > 1e-3 for gradient in ours)


def test_what_stands_in_an_invalid_row_does_not_matter():
    valid = torch.tensor(VALID["unevenly"], dtype=torch.bool)
    image, text, scale = leaves()
    before = our_loss(image, text, scale, valid)
    with torch.no_grad():
        image[~valid], text[~valid] = 7.0, text[valid][0]
    torch.testing.assert_close(our_loss(image, text, scale, valid), before, rtol=0, atol=1e-15)


def test_a_batch_without_a_valid_row_gives_zero_and_zero_gradients():
    loss, *gradients = loss_and_gradients(our_loss, [0] * B)
    assert loss == 0
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)


def test_half_precision_features_are_compared_in_float32():
    image, text, scale = (leaf.detach() for leaf in leaves())
    image, text = (F.normalize(f, dim=-1).to(torch.bfloat16) for f in (image, text))
    valid = torch.ones(B, dtype=torch.bool)
    loss = contrastive_loss(image, text, scale.float().exp(), valid)
    assert loss.dtype == torch.float32
    exact = contrastive_loss(image.double(), text.double(), scale.exp(), valid)
    assert float(loss) == pytest.approx(float(exact), rel=1e-5)


def test_alone_gather_is_the_tensor_itself():
    tensor = torch.randn(3, 2)
    assert gather(tensor) is tensor


class Towers(nn.Module):
    """Two linear towers and a scale; float64."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        image, text = torch.randn(2, D, 3, generator=generator, dtype=torch.float64)
        self.image, self.text = nn.Parameter(image), nn.Parameter(text)
        self.log_scale = nn.Parameter(torch.tensor(LOG_SCALE, dtype=torch.float64))

    def forward(self, image, text):
        return image @ self.image, text @ self.text, self.log_scale


def train_a_part(rank, ranks, folder):
    """Run every validity pattern on one rank under DDP; leave loss and averaged gradients."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks
    )
    part = slice(rank * B // ranks, (rank + 1) * B // ranks)
    image, text, _ = (leaf.detach() for leaf in leaves())
    results = {}
    for name, valid in (VALID | {"none": [0] * B}).items():
        model = DistributedDataParallel(Towers())
        valid = torch.tensor(valid, dtype=torch.bool)
        loss = our_loss(*model(image[part], text[part]), valid[part])
        loss.backward()
        results[name] = [loss.detach(), *(p.grad for p in model.module.parameters())]
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_parts_of_two_ranks_average_to_loss_and_gradients_of_one_process(tmp_path):
    mp.start_processes(train_a_part, (2, str(tmp_path)), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert set(first) == set(VALID) | {"none"}
    for name, valid in VALID.items():
        model = Towers()
        image, text, _ = (leaf.detach() for leaf in leaves())
        loss = open_clip_loss(*model(image, text), torch.tensor(valid, dtype=torch.bool))
        loss.backward()
        torch.testing.assert_close(
            (first[name][0] + second[name][0]) / 2, loss.detach(), rtol=0, atol=1e-10
        )
        for of_rank in (first, second):
            for ours, parameter in zip(of_rank[name][1:], model.parameters(), strict=True):
                torch.testing.assert_close(ours, parameter.grad, rtol=0, atol=1e-10)
    for of_rank in (first, second):
        assert all(not value.any() for value in of_rank["none"])
