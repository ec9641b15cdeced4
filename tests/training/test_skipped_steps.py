"""A step whose loss or gradient is not finite changes nothing, on every rank alike."""

import functools
import io
import itertools
import math
import multiprocessing
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_module_exact import VALID, B, Plan, batch_of, clip
from torch import nn

from selffilter.team import Team
from selffilter.training.loss_scale import LossScale
from selffilter.training.module import ClipTraining, adamw, fresh_ema
from selffilter.training.trainer import NotFinite, Segment, fit

STEPS = 4
optimizer = functools.partial(adamw, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)


class Data:
    """As a dataset: a batch a step; at some steps an image that is not finite, of the last row."""

    def __init__(self, bad):
        self.bad = bad

    def __getitem__(self, request):
        rows = slice(int(request.rows_B[0]), int(request.rows_B[-1]) + 1)
        batch = batch_of(VALID["all"], rows, torch.float32)
        batch["image"] = batch["image"] + request.step
        if request.step in self.bad and rows.stop == B:
            batch["image"][-1] = math.inf
        return batch


def with_batch_norm():
    """A model whose forward changes buffers."""
    model = clip("softmax", dtype=torch.float32)
    model.visual.ln_pre = nn.BatchNorm1d(17)  # over the tokens, which stand second
    return model


def train(bad, *, model=None, team=None, begin=None, end=STEPS, **options):
    """Train from a state; returns the state after each step by its number, and the reports."""
    model = model or clip("softmax", dtype=torch.float32)
    ema = fresh_ema(model)

    def make_optimizer(of):
        made = optimizer(of)
        if begin:
            made.load_state_dict(begin.optimizer)
        return made

    if begin:
        model.load_state_dict(begin.model)
        ema = {name: value.clone() for name, value in begin.ema.items()}
    names = ("clip_grad_norm", "micro_batch_size", "loss_scale")
    of_module = {k: options.pop(k) for k in names if k in options}
    module = ClipTraining(
        model.train(), make_optimizer, lambda step: 1e-2, seed=0,
        first_step=begin.step if begin else 0, ema=ema, ema_decay=0.9,
        skipped=begin.skipped if begin else 0, **of_module,
    )  # fmt: skip
    states, reports = {}, []

    def keep(state):
        # The tensors are those that the next step changes.
        buffer = io.BytesIO()
        torch.save(vars(state), buffer)
        buffer.seek(0)
        states[state.step] = type(state)(**torch.load(buffer))

    options = {"report_every": 1, "max_skipped": 9, "precision": "32-true"} | options
    states[end] = fit(
        module, Data(bad), Segment(Plan(), 0, end), team or Team(torch.device("cpu")),
        workers=0, deterministic=False, report=reports.append,
        checkpoint=keep, checkpoint_every=1, **options,
    )  # fmt: skip
    return states, reports


def same(a, b):
    """Whether weights, average and optimizer are the same to the bit."""
    tensors = [
        [*s.model.values(), *s.ema.values(), *(v for m in s.optimizer["state"].values()
         for v in m.values())]
        for s in (a, b)
    ]  # fmt: skip
    return len(tensors[0]) == len(tensors[1]) and all(map(torch.equal, *tensors))


@pytest.mark.parametrize(
    "options", [{}, {"clip_grad_norm": 0.1}, {"micro_batch_size": 3}], ids=lambda o: str(list(o))
)
def test_a_skipped_step_counts_and_leaves_everything_as_it_was(options):
    states, reports = train({2}, **options)
    assert same(states[2], states[3]) and not same(states[1], states[2])
    assert not same(states[3], states[4])
    assert [states[s].skipped for s in (1, 2, 3, 4)] == [0, 0, 1, 1]
    assert [r.skipped_steps for r in reports] == [0, 0, 1, 0]
    assert [math.isfinite(r.loss) for r in reports] == [True, True, False, True]
    assert all(v.isfinite().all() for v in states[4].model.values())


def scaled(scale, bad=(), **options):
    """Train in fp16 from a loss scale on."""
    made = LossScale(torch.device("cpu"), scale)
    return train(set(bad), precision="16-mixed", loss_scale=made, **options)


@pytest.mark.parametrize("micro", [None, 3])
def test_what_a_loss_scale_makes_overflow_is_skipped_and_does_not_count(micro):
    states, reports = scaled(2.0**38, micro_batch_size=micro)
    skipped = [same(states[s], states[s + 1]) for s in (1, 2, 3)]
    scales = [r.loss_scale for r in reports]
    assert skipped[0] and scales[0] == 2.0**37
    # Halved until the gradient fits.
    halved = [after / before for before, after in itertools.pairwise(scales)]
    assert halved == [0.5 if again else 1 for again in skipped]
    assert [r.skipped_steps for r in reports] == [0] * STEPS and states[STEPS].skipped == 0
    calm, _ = scaled(1024.0, micro_batch_size=micro)
    assert not any(same(calm[s], calm[s + 1]) for s in (1, 2, 3))


def test_what_no_loss_scale_can_cure_counts():
    states, reports = scaled(1024.0, bad={1, 2})
    assert [r.skipped_steps for r in reports] == [0, 1, 1, 0]
    assert states[STEPS].loss_scale == (256.0, 1)
    # The loss is finite, its gradient is not, and the scale is as low as it gets.
    states, _ = scaled(1.0)
    module = ClipTraining(
        clip("softmax"), adamw, float, seed=0, first_step=0, ema={}, ema_decay=0.9,
        loss_scale=LossScale(torch.device("cpu"), 1.0),
    )  # fmt: skip
    assert [float(x) for x in module._is_not_finite(torch.tensor(2.0), torch.tensor(math.inf))] == [
        1.0, 1.0,
    ]  # fmt: skip


def test_gone_on_with_in_fp16_it_is_the_same_run():
    states, _ = scaled(1024.0, bad={1})
    again = LossScale(torch.device("cpu"), *states[2].loss_scale)
    went_on, _ = train({1}, begin=states[2], precision="16-mixed", loss_scale=again)
    assert same(went_on[STEPS], states[STEPS])
    assert went_on[STEPS].loss_scale == states[STEPS].loss_scale == (512.0, 2)


def test_a_first_step_may_be_skipped():
    states, _ = train({0})
    fresh = clip("softmax", dtype=torch.float32).state_dict()
    assert all(torch.equal(fresh[name], value) for name, value in states[1].model.items())
    assert not same(states[1], states[2])


def test_running_statistics_are_not_spoilt():
    states, _ = train({2}, model=with_batch_norm())
    assert same(states[2], states[3])
    statistics = [v for name, v in states[4].model.items() if "running" in name]
    assert len(statistics) == 2 and all(v.isfinite().all() for v in statistics)
    assert states[4].model["visual.ln_pre.num_batches_tracked"] == STEPS - 1


def test_the_loss_that_is_reported_is_the_mean_over_the_steps_taken():
    _, single = train({2})
    _, [whole] = train({2}, report_every=STEPS)
    assert whole.loss == pytest.approx(sum(r.loss for r in single if r.loss == r.loss) / 3)
    assert whole.skipped_steps == 1 and whole.valid == 1


@pytest.mark.parametrize("at", [2, 3])
def test_gone_on_with_after_a_skipped_step_it_is_the_same_run(at):
    states, _ = train({2})
    again, _ = train({2}, begin=states[at])
    assert same(again[4], states[4]) and again[4].skipped == 1


def test_more_than_may_be_end_the_run_with_the_last_step_and_its_rows():
    assert train({1, 2}, max_skipped=2)[0][4].skipped == 2
    with pytest.raises(NotFinite) as caught:
        train({1, 2}, max_skipped=1)
    assert (caught.value.step, caught.value.skipped) == (2, 2)
    assert caught.value.rows_B.tolist() == list(range(B))


def test_skipped_steps_before_a_resume_count():
    states, _ = train({1, 2}, max_skipped=2)
    with pytest.raises(NotFinite):
        train({1, 2}, begin=states[2], max_skipped=1)
    assert train(set(), begin=states[3], max_skipped=1)[0][4].skipped == 2


def on_a_rank(rank, ranks, folder):
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
        "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    team = Team(torch.device("cpu"), rank=rank, size=ranks, local_size=ranks)
    state = vars(train({2}, team=team)[0][STEPS])
    # What one rank alone finds, all of them skip.
    one = ClipTraining(clip("softmax"), adamw, float, seed=0, first_step=0, ema={}, ema_decay=0.9)
    own = torch.tensor(math.nan if rank else 1.0)
    found, counts = one._is_not_finite(own, torch.tensor(1.0))
    torch.save({"state": state, "found": found, "counts": counts}, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_ranks_skip_alike(tmp_path):
    multiprocessing.set_forkserver_preload(["selffilter.training.trainer"])
    mp.start_processes(on_a_rank, (2, str(tmp_path)), nprocs=2, start_method="forkserver")
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    alone, _ = train({2})
    assert first["found"] == second["found"] == first["counts"] == second["counts"] == 1
    assert first["state"]["skipped"] == second["state"]["skipped"] == 1
    for name, value in alone[STEPS].model.items():
        assert torch.equal(first["state"]["model"][name], second["state"]["model"][name])
        torch.testing.assert_close(first["state"]["model"][name], value, rtol=0, atol=1e-3)


def test_checkpoints_by_minutes_come_beside_those_by_steps():
    def saved(**when):
        module = ClipTraining(
            clip("softmax", dtype=torch.float32), optimizer, lambda step: 1e-3, seed=0,
            first_step=0, ema=fresh_ema(clip("softmax", dtype=torch.float32)), ema_decay=0.9,
        )  # fmt: skip
        steps = []
        fit(
            module, Data(set()), Segment(Plan(), 0, STEPS), Team(torch.device("cpu")),
            precision="32-true", workers=0, deterministic=False, report=lambda _: None,
            report_every=1, checkpoint=lambda state: steps.append(state.step), **when,
        )  # fmt: skip
        return steps

    assert saved(checkpoint_every=3) == [3]
    assert saved(checkpoint_every=3, checkpoint_every_s=3600.0) == [3]
    assert saved(checkpoint_every=3, checkpoint_every_s=0.0) == [1, 2, 3, 4]
