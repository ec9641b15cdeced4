import threading

import pytest

from selffilter.errors import UserError
from selffilter.threads import ahead, several


def test_results_come_in_the_order_of_the_jobs():
    assert list(several(lambda job: job**2, range(100))) == [job**2 for job in range(100)]


def test_an_error_in_one_of_several_jobs_is_raised_and_ends_the_others():
    def work(job):
        if job == 3:
            raise UserError("three")
        return job

    found = []
    with pytest.raises(UserError, match="three"):
        for result in several(work, range(1000)):
            found.append(result)
    assert found == [0, 1, 2]


def test_the_next_thing_is_made_while_one_is_looked_at():
    made = [threading.Event() for _ in range(3)]

    def things():
        for number, event in enumerate(made):
            event.set()
            yield number

    found = []
    for number in ahead(things()):
        assert number == 2 or made[number + 1].wait(60)
        assert number or not made[2].is_set()  # and none further
        found.append(number)
    assert found == [0, 1, 2]
    assert list(ahead([])) == []
    assert list(ahead([None])) == [None]


def test_an_error_in_making_a_thing_comes_in_its_turn():
    def things():
        yield 1
        raise UserError("two")

    found = []
    with pytest.raises(UserError, match="two"):
        for number in ahead(things()):
            found.append(number)
    assert found == [1]
