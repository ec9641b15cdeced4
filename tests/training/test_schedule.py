import pytest
import torch
from open_clip_train.scheduler import const_lr, cosine_lr

from selffilter.training.schedule import learning_rate


def rates(total, **kwargs):
    return [learning_rate(step, total, **kwargs) for step in range(total)]


@pytest.mark.parametrize(("total", "warmup"), [(50, 0), (50, 10), (7, 7), (5, 20), (20, 1)])
@pytest.mark.parametrize(("schedule", "theirs"), [("cosine", cosine_lr), ("constant", const_lr)])
def test_cosine_and_constant_are_open_clips(schedule, theirs, total, warmup):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    expected = theirs(optimizer, 3e-4, warmup, total)
    ours = rates(total, peak=3e-4, warmup_steps=warmup, schedule=schedule)
    assert ours == pytest.approx([expected(step) for step in range(total)], rel=1e-12)


def test_warmup_stable_decay_goes_up_stays_and_falls_over_the_last_share():
    ours = rates(20, peak=1.0, warmup_steps=4, schedule="warmup_stable_decay", decay_fraction=0.5)
    assert ours[:4] == [0.25, 0.5, 0.75, 1.0]
    assert ours[4:11] == [1.0] * 7
    assert ours[11:] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_after_the_horizon_the_rate_is_zero_and_never_below():
    for schedule in ("cosine", "warmup_stable_decay"):
        late = learning_rate(30, 20, peak=1.0, warmup_steps=0, schedule=schedule)
        assert late == pytest.approx(0, abs=1e-15)


def test_without_a_decay_it_stays_at_the_peak():
    ours = rates(9, peak=2.0, warmup_steps=0, schedule="warmup_stable_decay", decay_fraction=0)
    assert ours == [2.0] * 9


def test_a_schedule_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="no schedule 'linear'"):
        learning_rate(0, 1, peak=1.0, warmup_steps=0, schedule="linear")
