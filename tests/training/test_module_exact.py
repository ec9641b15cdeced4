"""A step's loss and gradients are those of the global batch: any ranks, any micro-batches."""

import multiprocessing
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from open_clip.model import CLIP
from torch import nn

from selffilter.errors import UserError
from selffilter.pool.row_reader import Reads
from selffilter.team import Team
from selffilter.training.feature_caching import refuse_batch_norm
from selffilter.training.loss_scale import LossScale
from selffilter.training.module import ClipTraining, adamw, fresh_ema
from selffilter.training.trainer import Segment, fit

B = 16
MICRO = (None, 1, 3, B)
VALID = {
    "all": [1] * B,
    "unevenly": [1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1, 0, 1, 1],
    "not on the first of four ranks": [0] * 4 + [1, 1, 0] * 4,
    "on the last of two ranks alone": [0] * 8 + [1] * 8,
    "nowhere": [0] * B,
}
BIAS = {"softmax": None, "sigmoid": -1.0}
CASES = [(loss, micro) for loss in BIAS for micro in MICRO]


def clip(loss, patch_dropout=0.0, dtype=torch.float64):
    """Return a small model; the same weights each time."""
    torch.manual_seed(0)
    model = CLIP(
        16,
        {
            "image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 4,
            "patch_dropout": patch_dropout,
        },
        {"context_length": 8, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1},
        init_logit_bias=BIAS[loss],
        output_dict=True,
    )  # fmt: skip
    return model.to(dtype)


def batch_of(valid, rows=slice(0, B), dtype=torch.float64):
    """Return some rows of the global batch, as the data loader gives them."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(B, 3, 16, 16, generator=generator, dtype=torch.float64).to(dtype)
    text = torch.randint(1, 99, (B, 8), generator=generator)
    return {
        "image": image[rows],
        "text": text[rows],
        "valid": torch.tensor(valid, dtype=torch.bool)[rows],
        "row": torch.arange(B)[rows],
        "reads": torch.zeros(len(vars(Reads())), dtype=torch.int64),
    }


def dense(out, valid):
    """Return the loss from its definition: all features there at once, sums written out."""
    image, text = out["image_features"][valid], out["text_features"][valid]
    logits = out["logit_scale"] * image @ text.T
    if "logit_bias" not in out:
        of_image, of_text = (x.log_softmax(dim=1).diagonal() for x in (logits, logits.T))
        return -0.5 * (of_image + of_text).sum() / len(image)
    logits = logits + out["logit_bias"]
    sign = 2 * torch.eye(len(image), dtype=logits.dtype) - 1
    return -(sign * logits).sigmoid().log().sum() / len(image)


def gradients_of(model):
    """Return a copy of what each parameter has; nothing for one that has none."""
    named = model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


class Recorder(torch.optim.SGD):
    """Keeps the gradients of each step and changes nothing."""

    def __init__(self, model):
        super().__init__(model.parameters(), lr=0.0)
        self.model, self.seen = model, []

    def step(self, closure=None):
        if closure is not None:
            closure()
        self.seen.append(gradients_of(self.model))


class Recording(ClipTraining):
    """Keeps this rank's part of each step's loss."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.losses = [*getattr(self, "losses", []), loss]
        return loss


class Patterns:
    """As a dataset: step k's batch has the k-th pattern of validity."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __getitem__(self, request):
        rows = slice(int(request.rows_B[0]), int(request.rows_B[-1]) + 1)
        return batch_of(list(VALID.values())[request.step], rows, self.dtype)


class Plan:
    """Rank r's part of each global batch is the r-th stretch of its rows."""

    def stretches(self, first, end):
        return [range(first, end)]

    def rank_batch(self, step, rank, ranks):
        return torch.arange(B)[rank * B // ranks : (rank + 1) * B // ranks].numpy()


def train(
    model, team=None, *, micro=None, precision="32-true", steps=None, static_graph=False, **options
):
    """Run the trainer over all patterns.

    Returns:
        This rank's part of the loss and the gradients that the optimizer was given, of each step.
    """
    optimizers = []

    def make_optimizer(of):
        optimizers.append(Recorder(of))
        return optimizers[0]

    module = Recording(
        model.train(), make_optimizer, lambda step: 0.0, seed=0, first_step=0,
        ema=fresh_ema(model), ema_decay=0.9,
        micro_batch_size=micro, **options,
    )  # fmt: skip
    fit(
        module, Patterns(next(model.parameters()).dtype), Segment(Plan(), 0, steps or len(VALID)),
        team or Team(torch.device("cpu")), precision=precision, workers=0, deterministic=False,
        report=lambda report: None, report_every=1, checkpoint=lambda state: None,
        checkpoint_every=100, static_graph=static_graph,
    )  # fmt: skip
    return list(zip(module.losses, optimizers[0].seen, strict=True))


def on_a_rank(rank, ranks, folder):
    """Train every case on one rank of several; leave losses and gradients."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
        "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks
    )
    team = Team(torch.device("cpu"), rank=rank, size=ranks, local_size=ranks)
    found = {case: train(clip(case[0]), team, micro=case[1]) for case in CASES}
    # Four rows at a time, however many ranks there are; a quarter of the patches are dropped.
    found["dropout"] = train(clip("softmax", 0.25), team, micro=4, steps=2)
    found["static"] = train(clip("softmax"), team, static_graph=True)
    torch.save(found, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[1, 2, 4], ids=lambda ranks: f"{ranks} rank(s)")
def trained(request, tmp_path_factory):
    """What each rank was left with, a dict a rank."""
    ranks = request.param
    if ranks == 1:
        found = {case: train(clip(case[0]), micro=case[1]) for case in CASES}
        found["dropout"] = train(clip("softmax", 0.25), micro=4, steps=2)
        return [found | {"static": train(clip("softmax"), static_graph=True)}]
    folder = tmp_path_factory.mktemp("ranks")
    # One process imports torch for all of them.
    multiprocessing.set_forkserver_preload(["selffilter.training.trainer"])
    mp.start_processes(on_a_rank, (ranks, str(folder)), nprocs=ranks, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(ranks)]


@pytest.fixture(scope="module")
def expected():
    """Loss and gradients of each loss and pattern, of one dense graph over all rows."""
    found = {}
    for loss in BIAS:
        for step, valid in enumerate(VALID.values()):
            model, batch = clip(loss), batch_of(valid)
            out = model(batch["image"], batch["text"])
            nothing = 0.0 * torch.stack([output.sum() for output in out.values()]).sum()
            value = dense(out, batch["valid"]) if any(valid) else nothing
            value.backward()
            found[loss, step] = value.detach(), gradients_of(model)
    return found


@pytest.mark.parametrize("loss", BIAS)
@pytest.mark.parametrize("micro", MICRO)
def test_loss_and_gradients_are_those_of_one_dense_graph(trained, expected, loss, micro):
    for step, which in enumerate(VALID):
        value, gradients = expected[loss, step]
        steps = [of_rank[loss, micro][step] for of_rank in trained]
        mean = torch.stack([part for part, _ in steps]).mean()
        torch.testing.assert_close(mean, value, rtol=0, atol=1e-10, msg=which)
        for _, got in steps:
            assert got.keys() == gradients.keys() >= {"logit_scale", "visual.conv1.weight"}
            for name, gradient in gradients.items():
                torch.testing.assert_close(got[name], gradient, rtol=0, atol=1e-10)
        if which != "nowhere":
            numbers = {"logit_scale", "logit_bias"} & gradients.keys()
            assert all(gradients[name].abs() > 1e-3 for name in numbers)


def test_a_static_graph_changes_nothing(trained):
    for of_rank in trained:
        for (loss, got), (expected_loss, wanted) in zip(
            of_rank["static"], of_rank["softmax", None], strict=True
        ):
            torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-12)
            assert got.keys() == wanted.keys()
            for name, gradient in wanted.items():
                torch.testing.assert_close(got[name], gradient, rtol=0, atol=1e-12)


def test_as_many_rows_at_a_time_drop_the_same_patches_on_any_number_of_ranks(trained):
    alone = train(clip("softmax", 0.25), micro=4, steps=2)
    for of_rank in trained:
        for (_, got), (_, wanted) in zip(of_rank["dropout"], alone, strict=True):
            for name, gradient in wanted.items():
                torch.testing.assert_close(got[name], gradient, rtol=0, atol=1e-10)


def test_both_passes_drop_the_same_patches_and_the_gradient_is_that_of_one_graph():
    model, kept, states = clip("softmax", patch_dropout=0.5), [], []
    model.visual.patch_dropout.register_forward_hook(lambda _, __, out: kept.append(out.detach()))
    model.visual.patch_dropout.register_forward_pre_hook(
        lambda _, __: states.append(torch.get_rng_state())
    )
    [(loss, gradients)] = train(model, micro=6, steps=1)
    assert [len(k) for k in kept] == [6, 6, 4] * 2
    for first, second in zip(kept[:3], kept[3:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(states[0], states[1])

    again, batch = clip("softmax", patch_dropout=0.5), batch_of(VALID["all"])
    parts = []
    for state, begin in zip(states[:3], (0, 6, 12), strict=True):
        torch.set_rng_state(state)
        parts.append(again(batch["image"][begin : begin + 6], batch["text"][begin : begin + 6]))
    out = parts[0] | {
        name: torch.cat([part[name] for part in parts])
        for name in ("image_features", "text_features")
    }
    value = dense(out, batch["valid"])
    value.backward()
    torch.testing.assert_close(loss, value.detach(), rtol=0, atol=1e-12)
    for name, gradient in gradients_of(again).items():
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-mixed"])
@pytest.mark.parametrize("loss", BIAS)
def test_in_half_precision_micro_batches_change_the_gradients_by_rounding_alone(loss, precision):
    exact = train(clip(loss, dtype=torch.float32), micro=None, steps=1)[0][1]
    dtype = torch.bfloat16 if precision == "bf16-true" else torch.float32

    def trained_in(micro):
        scale = LossScale(torch.device("cpu"), 16.0) if precision == "16-mixed" else None
        model = clip(loss, dtype=dtype)
        return train(model, micro=micro, precision=precision, steps=1, loss_scale=scale)[0][1]

    whole, parts = map(trained_in, (None, 5))
    for name, gradient in exact.items():
        off = [(found[name].float() - gradient).norm() for found in (whole, parts)]
        # Both are off by rounding, the parts not much more than the whole.
        assert off[1] <= 2 * off[0] + 0.02 * gradient.norm(), name
        assert off[1] <= 0.2 * gradient.norm() + 1e-6, name


@pytest.mark.parametrize("micro", [None, 3])
def test_a_locked_tower_gets_no_gradient_and_the_other_one_the_same(micro):
    model, free, batch = clip("softmax"), clip("softmax"), batch_of(VALID["all"])
    model.visual.requires_grad_(False)
    dense(free(batch["image"], batch["text"]), batch["valid"]).backward()
    wanted = {n: g for n, g in gradients_of(free).items() if not n.startswith("visual.")}
    [(_, gradients)] = train(model, micro=micro, steps=1)
    assert gradients.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("micro", [None, 3])
def test_the_gradient_is_clipped_once_it_is_complete(micro):
    [(_, gradients)] = train(clip("softmax"), micro=None, steps=1)
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    [(_, clipped)] = train(clip("softmax"), micro=micro, steps=1, clip_grad_norm=float(norm) / 4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(clipped[name], gradient / 4, rtol=1e-5, atol=1e-12)


def test_micro_batches_stay_where_they_are_until_their_turn():
    def devices(micro):
        module = ClipTraining(
            clip("softmax"), adamw, float, seed=0, first_step=0, ema={}, ema_decay=0.9,
            micro_batch_size=micro,
        )  # fmt: skip
        moved = module.transfer_batch_to_device(batch_of(VALID["all"]), torch.device("meta"), 0)
        return {name: tensor.device.type for name, tensor in moved.items()}

    assert set(devices(None).values()) == {"meta"}
    assert devices(3) == devices(None) | {"image": "cpu", "text": "cpu"}


def test_a_model_that_mixes_the_rows_it_encodes_together_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(UserError, match=r"train\.micro_batch_size.*batch norm \(1\)"):
        refuse_batch_norm(model)
    refuse_batch_norm(clip("softmax"))
