import itertools

import pytest
import torch

from selffilter.evaluation.association import (
    association_metrics,
    association_prompt,
    jaccard_index,
)


@pytest.mark.parametrize("associated", itertools.product([False, True], repeat=4))
def test_as_many_are_chosen_as_are_associated_and_the_two_choices_are_compared(associated):
    if not any(associated):
        return
    for order in itertools.permutations([0.1, 0.2, 0.2, 0.9]):
        ranked = sorted(range(4), key=lambda n: (-order[n], associated[n]))  # wrong ones first
        chosen = set(ranked[: sum(associated)])
        right = {n for n in range(4) if associated[n]}
        expected = len(chosen & right) / len(chosen | right)
        found = jaccard_index(torch.tensor(order), torch.tensor(associated))
        assert found == pytest.approx(expected)


def test_the_mean_is_over_all_cues_and_by_the_number_of_candidates():
    found = association_metrics([1.0, 0.5, 0.0, 0.25], [5, 6, 10, 12])
    assert found["avg_jaccard_score"] == 0.4375
    assert found["jaccard_score_5-6"] == 0.75
    assert found["jaccard_score_10-12"] == 0.125
    assert association_metrics([1.0], [5])["jaccard_score_10-12"] is None


def test_the_prompt_has_the_article_of_its_first_letter():
    assert association_prompt("Apple") == "An apple"
    assert association_prompt("Wolf") == "A wolf"
