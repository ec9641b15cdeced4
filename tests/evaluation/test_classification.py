import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selffilter.evaluation.classification import classification_metrics, place_of_own_class

SIMILARITIES = st.sampled_from([-0.5, 0.0, 0.25, 0.5])  # few values: many ties


@st.composite
def situations(draw):
    """Logits (N, C), classes (N,), groups (N,)."""
    classes = draw(st.integers(1, 7))
    row = st.lists(SIMILARITIES, min_size=classes, max_size=classes)
    logits = draw(st.lists(row, min_size=1, max_size=12))
    labels = st.integers(0, classes - 1)
    own = draw(st.lists(labels, min_size=len(logits), max_size=len(logits)))
    group = draw(st.lists(st.sampled_from([0, 3, 9]), min_size=len(own), max_size=len(own)))
    return logits, own, group


def by_hand(logits, own, group):
    """Count with loops, a sorted list a sample: of equal ones the right class comes last."""
    orders = [
        sorted(range(len(row)), key=lambda c: (-row[c], c == o))
        for row, o in zip(logits, own, strict=True)
    ]
    places = [order.index(o) for order, o in zip(orders, own, strict=True)]
    predicted = [order[0] for order in orders]
    hits = [p == o for p, o in zip(predicted, own, strict=True)]
    recalls, f1s = [], []
    for c in set(own):
        true_positive = sum(p == o == c for p, o in zip(predicted, own, strict=True))
        recalls.append(true_positive / own.count(c))
        false_positive = predicted.count(c) - true_positive
        missed = own.count(c) - true_positive
        f1s.append(2 * true_positive / (2 * true_positive + false_positive + missed))
    of_group = {g: [h for h, other in zip(hits, group, strict=True) if other == g] for g in group}
    near = {g: [q < 5 for q, o in zip(places, group, strict=True) if o == g] for g in group}
    enough = len(logits[0]) >= 5
    return {
        "acc1": np.mean(hits),
        "acc5": np.mean([p < 5 for p in places]) if enough else None,
        "mean_per_class_recall": np.mean(recalls),
        "macro_f1": np.mean(f1s),
        "worst_class_recall": min(recalls),
        "mean_reciprocal_rank": np.mean([1 / (1 + p) for p in places]),
        "worst_place_acc1": min(map(np.mean, of_group.values())),
        "worst_place_acc5": min(map(np.mean, near.values())) if enough else None,
    }


@given(situations())
def test_the_metrics_are_what_counting_by_hand_gives(situation):
    logits, own, group = situation
    class_N = torch.tensor(own)
    rank_N, predicted_N = place_of_own_class(torch.tensor(logits), class_N)
    groups = {"place": torch.tensor(group)}
    found = classification_metrics(rank_N, predicted_N, class_N, len(logits[0]), groups)
    assert found == pytest.approx(by_hand(logits, own, group), abs=1e-12)


def test_a_model_to_which_all_is_the_same_knows_nothing():
    class_N = torch.tensor([0, 0, 1, 6])
    rank_N, predicted_N = place_of_own_class(torch.ones(4, 7), class_N)
    found = classification_metrics(rank_N, predicted_N, class_N, 7)
    assert (predicted_N != class_N).all()
    assert {found[k] for k in ("acc1", "acc5", "mean_per_class_recall", "macro_f1")} == {0.0}
    assert found["mean_reciprocal_rank"] == pytest.approx(1 / 7)


def test_what_is_not_a_number_is_no_hit():
    rank_N, _ = place_of_own_class(torch.full((2, 6), torch.nan), torch.tensor([0, 5]))
    assert rank_N.tolist() == [5, 5]


def test_a_perfect_model_has_ones():
    class_N = torch.tensor([0, 1, 2, 3, 4, 4])
    rank_N, predicted_N = place_of_own_class(torch.eye(5)[class_N], class_N)
    found = classification_metrics(rank_N, predicted_N, class_N, 5, {"sex": class_N % 2})
    assert set(found.values()) == {1.0}


def test_groups_without_samples_do_not_count_whatever_their_numbers():
    rank_N = torch.tensor([0, 0, 3, 0])
    group_N = torch.tensor([7, 7, 10**12, 10**12])
    found = classification_metrics(rank_N, rank_N, rank_N, 6, {"year": group_N})
    assert found["worst_year_acc1"] == 0.5
    assert found["worst_year_acc5"] == 1.0
