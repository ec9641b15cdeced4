import pytest
import torch

from selffilter.errors import UserError
from selffilter.training.state import TrainState, damage, newest_whole


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


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


@pytest.fixture
def large(state):
    # Large enough that the middle of the file lies in a tensor.
    state.model["large"] = torch.arange(10_000.0)
    return state


def test_torch_would_go_on_with_a_weight_of_which_a_bit_has_flipped(large, tmp_path):
    path = tmp_path / "last.ckpt"
    large.save(path)
    assert damage(path) is None
    flip_a_bit(path)
    assert not torch.equal(TrainState.load(path).model["large"], large.model["large"])
    assert "checksum" in damage(path)


@pytest.mark.parametrize("hurt", [flip_a_bit, cut_off, empty])
def test_the_newest_state_that_is_whole_is_found_and_what_is_damaged_set_aside(
    large, tmp_path, hurt
):
    path, said = tmp_path / "last.ckpt", []
    for step in (2, 4, 6):
        large.step = step
        large.save(path, keep=3)
    assert newest_whole(path, said.append) == "last.ckpt"
    assert said == []
    hurt(path)  # the newest under both of its names: they are one file
    assert newest_whole(path, said.append) == "step-0000000004.ckpt"
    assert [line.split(" is damaged")[0] for line in said] == [
        str(path), str(tmp_path / "step-0000000006.ckpt"),
    ]  # fmt: skip
    assert "set aside as last.ckpt.damaged" in said[0]
    hurt(tmp_path / "step-0000000004.ckpt")
    hurt(tmp_path / "step-0000000002.ckpt")
    assert newest_whole(path, said.append) is None
    assert len(list(tmp_path.glob("*.damaged"))) == 4
