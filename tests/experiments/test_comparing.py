import pyarrow as pa
import pytest

from selffilter.experiments.comparing import compare
from selffilter.experiments.writing import headline, results_table

VALUES = {
    "loop": {0: 0.14, 1: 0.16, 2: 0.13, 3: 0.14},
    "uniform": {0: 0.10, 1: 0.12, 2: 0.08, 3: 0.10},
    "oracle": {0: 0.20, 1: 0.22, 2: 0.18, 3: 0.21},
    "frozen": {0: 0.12, 1: 0.15},
}


@pytest.fixture
def lines():
    rows = [
        {
            "pool": "p", "set": "s", "metric": "acc1", "method": method, "seed": seed,
            "value": value, "samples_seen": 100.0, "training_flops": 3e15, "scoring_flops": 0.0,
            "used_flops": 0.0, "clean_share": None, "precision": None, "auc": None,
        }
        for method, values in VALUES.items()
        for seed, value in values.items()
    ]  # fmt: skip
    made = compare(pa.Table.from_pylist(rows), list(VALUES), resamples=1000)
    return {line.method: line for line in made}


def test_a_method_is_set_against_uniform_the_loop_and_the_gap(lines):
    frozen = lines["frozen"]
    assert frozen.value.mean == pytest.approx(0.135)
    # On the two seeds that both have.
    assert frozen.versus_uniform.mean == pytest.approx((0.02 + 0.03) / 2)
    assert frozen.loop_ahead.mean == pytest.approx((0.02 + 0.01) / 2)
    assert frozen.loop_ahead.seeds == 2
    assert lines["loop"].gap_closed.share == pytest.approx(0.0425 / 0.1025)


def test_nothing_is_set_against_itself(lines):
    assert lines["uniform"].versus_uniform is None
    assert lines["loop"].loop_ahead is None
    assert lines["oracle"].gap_closed is None and lines["uniform"].gap_closed is None


def test_the_table_and_the_headline_say_it_in_points(lines):
    table = results_table(list(lines.values())).splitlines()
    assert table[0].split(" | ")[-2:] == ["loop ahead by", "gap closed |"]
    frozen = next(row for row in table if row.startswith("| frozen"))
    assert "| 2 | 13.50 ± 2.12 | +2.50 |" in frozen and "| +1.50 (" in frozen
    assert headline(list(lines.values()), "loop").startswith("**loop: +4.25 points against uniform")
