import pytest
import torch

from selffilter.errors import UserError
from selffilter.training.state import TrainState


@pytest.fixture
def state():
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    weights = {n: v.detach() for n, v in layer.state_dict().items()}
    ema = {n: v / 2 for n, v in weights.items()}
    return TrainState(step=17, model=weights, ema=ema, optimizer=optimizer.state_dict())


def assert_equal(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other) and one.dtype == other.dtype
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


def test_a_state_is_read_back_bit_for_bit(state, tmp_path):
    state.save(tmp_path / "last.ckpt")
    again = TrainState.load(tmp_path / "last.ckpt")
    assert again.step == 17
    for name in ("model", "ema", "optimizer"):
        assert_equal(getattr(again, name), getattr(state, name))
    assert again.optimizer["state"][0]["exp_avg"].any()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_state_that_is_cut_off_is_refused_by_name(state, tmp_path, share):
    path = tmp_path / "last.ckpt"
    state.save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"last\.ckpt is no training state .* Remove it"):
        TrainState.load(path)


@pytest.mark.parametrize("value", [{"state_dict": {}}, [1, 2], torch.zeros(3), 5])
def test_another_file_of_torch_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="no training state"):
        TrainState.load(tmp_path / "last.ckpt")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (ran.write_text, ("",))

    torch.save({"step": Evil(), "model": {}, "ema": {}, "optimizer": {}}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="no training state"):
        TrainState.load(tmp_path / "last.ckpt")
    assert not ran.exists()


def test_a_failed_save_leaves_the_old_state(state, tmp_path, monkeypatch):
    state.save(tmp_path / "last.ckpt")
    before = (tmp_path / "last.ckpt").read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        state.save(tmp_path / "last.ckpt")
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert (tmp_path / "last.ckpt").read_bytes() == before
