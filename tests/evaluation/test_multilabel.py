import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selffilter.evaluation.multilabel import average_precision

PAIRS = st.lists(st.tuples(st.sampled_from([-0.5, 0.0, 0.5]), st.booleans()), min_size=1)


def by_hand(scores, labels):
    """Average the precision where each right one stands; of equal ones the wrong come first."""
    order = sorted(range(len(scores)), key=lambda n: (-scores[n], labels[n]))
    right, precisions = 0, []
    for place, n in enumerate(order, start=1):
        if labels[n]:
            right += 1
            precisions.append(right / place)
    return np.mean(precisions) if precisions else 0.0


@given(PAIRS, PAIRS)
def test_it_is_what_counting_by_hand_gives(first, second):
    size = min(len(first), len(second))
    columns = [first[:size], second[:size]]
    scores = torch.tensor([[score for score, _ in column] for column in columns]).T
    labels = torch.tensor([[label for _, label in column] for column in columns]).T
    expected = [by_hand(*zip(*column, strict=True)) for column in columns]
    assert average_precision(scores, labels).tolist() == pytest.approx(expected, abs=1e-12)


def test_right_order_is_one_and_a_class_without_images_is_zero():
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.3]])
    labels = torch.tensor([[True, False], [True, False], [False, False]])
    assert average_precision(scores, labels).tolist() == [1, 0]
