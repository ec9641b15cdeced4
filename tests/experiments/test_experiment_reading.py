"""What an experiment's report says of its own intervals."""

from types import SimpleNamespace

import pytest

from selffilter.experiments.report import _how_to_read


@pytest.mark.parametrize(
    ("seeds", "said", "unsaid"),
    [
        (3, "With 3 seeds or fewer the bootstrap interval is left out", "Go by t"),
        (4, "80 % of cases with 4 seeds, 84 % with 5, 90 % with 10; t in 95 %", "left out"),
    ],
)
def test_how_often_an_interval_holds_the_mean_is_said_honestly(seeds, said, unsaid):
    told = _how_to_read(SimpleNamespace(seeds=list(range(seeds)), bootstrap_resamples=1000))
    intervals = next(line for line in told.splitlines() if line.startswith("- Intervals"))
    assert said in intervals
    assert unsaid not in intervals
