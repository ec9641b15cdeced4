import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.config import GuardConfig
from selffilter.selecting.guard import Alarm, Measured, Widening, check

HEALTHY = Measured(
    rows=10_000,
    diverse_share=0.07,
    retention=0.8,
    lead_sd=1.9,
    coverage={"cluster": 0.95},
    entropy={"cluster": 0.8, "source": 0.7},
)


def alarm(name):
    return Alarm(name, 0.0, 1.0, "")


def test_a_healthy_selection_raises_no_alarm():
    assert check(HEALTHY) == []


@pytest.mark.parametrize(
    ("measured", "name", "words"),
    [
        (Measured(diverse_share=0.001), "diverse_share", "at least 0.02"),
        (Measured(coverage={"cluster": 0.2}), "coverage", "by cluster"),
        (Measured(entropy={"language": 0.1}), "entropy", "by language is 0.1"),
        (Measured(retention=0.1), "retention", "still confident is 0.1"),
        (Measured(lead_sd=7.5), "lead_sd", "is 7.5; lead_sd asks for at most 4"),
    ],
)
def test_each_bound_has_its_alarm_and_its_sentence(measured, name, words):
    (found,) = check(measured)
    assert found.name == name
    assert words in found.sentence
    assert found.grouping in {*measured.coverage, *measured.entropy, None}


def test_too_few_rows_are_an_alarm_only_where_a_number_is_asked_for():
    assert check(Measured(rows=3)) == []
    (found,) = check(Measured(rows=3), GuardConfig(rows=100))
    assert (found.name, found.value, found.bound) == ("rows", 3, 100)
    assert check(Measured(rows=100), GuardConfig(rows=100)) == []


def test_what_is_not_measured_raises_none():
    assert check(Measured()) == []
    nan = math.nan
    assert check(Measured(0, nan, nan, nan, {"cluster": nan}, {"cluster": nan})) == []


def test_a_bound_that_is_off_raises_none():
    off = GuardConfig(None, None, None, None, None, None)
    worst = Measured(0, 0.0, 0.0, 99.0, {"cluster": 0.0}, {"cluster": 0.0})
    assert check(worst, off) == []
    assert len(check(worst, GuardConfig(rows=1))) == 6


def test_each_grouping_is_looked_at_and_may_have_any_name():
    found = check(Measured(entropy={"{odd} %s": 0.1, "source": 0.9, "cluster": 0.2}))
    assert [one.grouping for one in found] == ["{odd} %s", "cluster"]
    assert "{odd} %s" in found[0].sentence


class TestWidening:
    @pytest.mark.parametrize(
        ("name", "diverse", "keep"),
        [
            ("diverse_share", 0.2, 0.4),
            ("coverage", 0.2, 0.4),
            ("entropy", 0.2, 0.4),
            ("lead_sd", 0.2, 0.4),
            ("retention", 0.1, 0.5),
            ("rows", 0.2, 0.5),
        ],
    )
    def test_widens_what_the_alarm_is_about(self, name, diverse, keep):
        widening = Widening().after([alarm(name)])
        assert widening.fractions(0.1, 0.4) == pytest.approx((diverse, keep))

    def test_without_alarms_changes_nothing(self):
        assert Widening().after([]) == Widening()
        assert Widening().fractions(0.1, 0.4) == (0.1, 0.4)

    def test_is_one_step_a_round_however_many_alarms(self):
        every = [alarm(name) for name in ("coverage", "coverage", "entropy", "retention")]
        assert Widening().after(every) == Widening(1, 1)

    def test_adds_up_over_rounds_and_is_applied_to_what_is_scheduled(self):
        widening = Widening().after([alarm("entropy")]).after([]).after([alarm("rows")])
        assert widening == Widening(2, 1)
        assert widening.fractions(0.05, 0.2) == pytest.approx((0.2, 0.25))
        assert widening.fractions(0.1, 0.4) == pytest.approx((0.4, 0.5))

    def test_of_no_draw_begins_one_but_no_confident_share_is_made_of_nothing(self):
        assert Widening().after([alarm("rows")]).fractions(0.0, 0.0) == (0.05, 0.0)

    @given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 9), st.integers(0, 9))
    def test_never_narrows_and_never_goes_beyond_its_bounds(self, diverse, keep, draw, kept):
        found = Widening(draw, kept).fractions(diverse, keep, most_diverse=0.5, most_kept=0.8)
        assert diverse <= found[0] <= max(diverse, 0.5)
        assert keep <= found[1] <= max(keep, 0.8)
