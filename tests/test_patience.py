import random

import pytest

from selffilter import patience
from selffilter.patience import patiently


@pytest.fixture
def pauses(monkeypatch):
    found = []
    monkeypatch.setattr(patience.time, "sleep", found.append)
    return found


def failing(times, fault, found):
    def action():
        found.append(len(found))
        if len(found) <= times:
            raise fault
        return "done"

    return action


def test_a_fault_that_passes_is_not_seen(pauses):
    tries = []
    assert patiently(failing(3, OSError("busy"), tries), (OSError,)) == "done"
    assert len(tries) == 4
    assert len(pauses) == 3


def test_a_fault_that_stays_is_the_last_one_seen(pauses):
    tries = []
    with pytest.raises(OSError, match="busy"):
        patiently(failing(99, OSError("busy"), tries), (OSError,), attempts=6)
    assert len(tries) == 6


def test_pauses_grow_up_to_a_bound(pauses):
    with pytest.raises(OSError, match="busy"):
        patiently(failing(99, OSError("busy"), []), (OSError,), attempts=9)
    least = [0.5, 1, 2, 4, 8, 16, 16, 16]
    for pause, bound in zip(pauses, least, strict=True):
        assert bound <= pause <= 1.25 * bound


def test_pauses_leave_the_generator_of_the_process_alone(pauses):
    random.seed(3)
    state = random.getstate()
    patiently(failing(2, OSError("busy"), []), (OSError,))
    assert random.getstate() == state
    assert pauses[1] != 2 * pauses[0]  # they are random all the same


@pytest.mark.parametrize(
    "fault", [FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError]
)
def test_what_no_patience_mends_is_raised_at_once(pauses, fault):
    tries = []
    with pytest.raises(fault):
        patiently(failing(1, fault("x"), tries), (OSError,))
    assert len(tries) == 1


def test_another_error_is_raised_at_once(pauses):
    tries = []
    with pytest.raises(KeyError):
        patiently(failing(1, KeyError("x"), tries), (OSError,))
    assert len(tries) == 1
