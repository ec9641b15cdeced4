import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.errors import UserError
from selffilter.selecting.cuts import Rule, apply_rules
from selffilter.standalone.select import Ensemble

NAN = np.nan
A = np.array([0.1, 0.9, NAN, 0.5, 0.7, 0.3], np.float32)
B = np.array([6, 5, 4, 3, NAN, 1], np.float32)
USABLE = np.array([True, True, True, True, True, False])


def uids_of(rows):
    return np.stack([np.zeros_like(rows), 100 - rows], 1).astype(np.uint64)


def cut(*words, columns=None, usable=USABLE, base=10):
    rules = [Rule.parse(*word.split(" ")) for word in words]
    columns = columns or {"a": A, "b": B}
    kept, cuts = apply_rules(columns, usable, rules, uids_of, base)
    return np.flatnonzero(kept).tolist(), cuts


def test_a_fraction_is_of_the_base_whatever_is_left():
    assert cut("keep a:0.3")[0] == [1, 3, 4]
    kept, (first, second) = cut("keep a:0.3", "keep b:0.2")
    assert kept == [1, 3]
    assert (first.before, first.no_score, first.cut, first.kept) == (5, 1, 1, 3)
    assert (second.before, second.no_score, second.cut, second.kept) == (3, 1, 0, 2)
    assert first.lowest == np.float32(0.5) and second.lowest == 3


def test_rules_are_applied_in_their_order():
    assert cut("top b:2", "top a:1")[0] == [1]
    assert cut("top a:2", "top b:1")[0] == [1]
    assert cut("top b:1", "above a:0.1")[0] == [0]
    assert cut("above a:0.2", "top b:1")[0] == [1]


def test_above_keeps_the_value_itself_as_a_float32_has_it():
    assert cut("above a:0.7")[0] == [1, 4]
    assert cut("above a:0.70001")[0] == [1]
    kept, (found,) = cut("above a:2")
    assert kept == [] and np.isnan(found.lowest) and found.cut == 4


def test_of_equal_scores_the_smaller_uid_stays():
    equal = {"a": np.zeros(6, np.float32)}
    assert cut("top a:2", columns=equal)[0] == [3, 4]  # uids fall as rows rise


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (["keep a:0.5"], "0.5 of 10 rows are 5, but only 4 rows that have a a are left (0.4000"),
        (["keep a:0.3", "keep b:0.3"], "are 3, but only 2 rows that have a b are left (0.2000"),
        (["top a:5"], "5 are asked for, but only 4 rows that have a a are left."),
    ],
)
def test_more_than_is_left_is_refused_with_how_many_are(rules, said):
    with pytest.raises(UserError) as error:
        cut(*rules)
    assert said in str(error.value)


@given(
    scores=st.lists(st.sampled_from([0.0, 1.0, 2.0, NAN]), min_size=1, max_size=30),
    fraction=st.floats(0.01, 1),
    count=st.integers(1, 30),
)
def test_every_row_is_accounted_for(scores, fraction, count):
    column = np.array(scores, np.float32)
    columns, usable = {"a": column}, np.arange(len(column)) % 3 > 0
    try:
        kept, cuts = cut(f"keep a:{fraction}", f"top a:{count}", columns=columns, usable=usable,
                         base=len(column))  # fmt: skip
    except UserError:
        left = int((usable & np.isfinite(column)).sum())
        assert round(fraction * len(column)) > left or count > round(fraction * len(column))
        return
    assert len(kept) == count == cuts[-1].kept
    gone = sum(found.cut + found.no_score for found in cuts)
    assert len(column) == len(kept) + gone + (~usable).sum()
    dropped = usable & np.isfinite(column)
    dropped[kept] = False
    assert not dropped.any() or column[kept].min() >= column[dropped].max()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("keep", "a"), ("keep", ":0.3"), ("keep", "a:"), ("keep", "a:0"), ("keep", "a:1.1"),
        ("keep", "a:nan"), ("top", "a:0.3"), ("top", "a:0"), ("above", "a:inf"), ("above", "a:x"),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(kind, text):
    with pytest.raises(UserError, match=f"--{kind} {text} is not SIGNAL:VALUE with a"):
        Rule.parse(kind, text)


def test_a_signal_may_have_a_colon():
    assert Rule.parse("keep", "l14:cosine:0.3") == Rule("keep", "l14:cosine", 0.3)


@pytest.mark.parametrize("text", ["mean:a,b", "mean:a=x", "max:a,b=x", "a,b=x", "mean:a,b="])
def test_what_is_no_ensemble_is_refused(text):
    with pytest.raises(UserError, match="is not HOW:SIGNAL,SIGNAL=NAME"):
        Ensemble.parse(text)
