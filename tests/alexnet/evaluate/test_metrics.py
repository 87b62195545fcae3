import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.evaluate.counts import Counts, count_rows
from alexnet.evaluate.metrics import judge_rows, label_ranks, top_classes
from infra.errors import DataError


def test_ties_go_to_the_lower_class_index() -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0, 1.0]]).expand(4, 4)
    labels = torch.arange(4)
    assert label_ranks(scores, labels).tolist() == [0, 1, 3, 2]
    assert top_classes(scores, 4).tolist() == [[0, 1, 3, 2]] * 4


def test_of_a_thousand_equal_scores_only_the_first_five_are_right_at_five() -> None:
    labels = np.arange(1000)
    rows = judge_rows(torch.full((1000, 1000), -math.log(1000)), torch.from_numpy(labels))
    counts = count_rows(labels, rows, 1000)
    assert (counts.correct1, counts.correct5, counts.count) == (1, 5, 1000)
    assert counts.confusion[:, 0].sum() == 1000


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_ranks_are_positions_in_the_stable_order(data: st.DataObject) -> None:
    classes = data.draw(st.integers(1, 8))
    row = st.lists(st.integers(-2, 2), min_size=classes, max_size=classes)
    scores = torch.tensor(data.draw(st.lists(row, min_size=1, max_size=5)), dtype=torch.float32)
    labels = torch.tensor([data.draw(st.integers(0, classes - 1)) for _ in scores])
    order = top_classes(scores, classes).tolist()
    expected = [row.index(label) for row, label in zip(order, labels.tolist(), strict=True)]
    assert label_ranks(scores, labels).tolist() == expected
    for values, best_first in zip(scores.tolist(), order, strict=True):
        assert best_first == sorted(range(classes), key=lambda c: (-values[c], c))


def credit_of_the_release(scores: list[float], label: int, k: int) -> Fraction:
    """`kMultiSoftmaxCost` of the release: what is free of the k places is shared among the tied."""
    above = sum(score > scores[label] for score in scores)
    tied = sum(score == scores[label] for score in scores)  # the label itself included
    return min(Fraction(1), Fraction(max(0, k - above), tied))


def tied_scores(classes: int) -> st.SearchStrategy[list[float]]:
    few = st.sampled_from([-3.0, -2.0, -1.0, 0.0])
    return st.lists(few, min_size=classes, max_size=classes)


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 12).flatmap(tied_scores), st.sampled_from([1, 5]))
def test_tied_classes_together_get_the_credit_that_the_release_gives_them(
    scores: list[float], k: int
) -> None:
    """Whichever of the tied classes is the true one: over all of them both rules give the same."""
    labels = torch.arange(len(scores))
    ranks = label_ranks(torch.tensor([scores] * len(scores)), labels)
    ours = [int(rank < k) for rank in ranks.tolist()]
    theirs = [credit_of_the_release(scores, label, k) for label in range(len(scores))]
    for value in set(scores):
        tied = [label for label, score in enumerate(scores) if score == value]
        assert sum(ours[label] for label in tied) == sum(theirs[label] for label in tied)
        # Only a tie across the last of the k places is counted otherwise, by less than one image.
        above = sum(score > value for score in scores)
        if len(tied) == 1 or above + len(tied) <= k or above >= k:
            assert all(ours[label] == theirs[label] for label in tied)
        assert all(abs(ours[label] - theirs[label]) < 1 for label in tied)


def test_without_ties_the_counts_are_the_releases() -> None:
    rng = np.random.default_rng(4)
    scores = np.argsort(rng.random((500, 20)), axis=1).astype(np.float32)
    labels = rng.integers(0, 20, 500)
    counts = _counts(torch.from_numpy(scores), torch.from_numpy(labels))
    for k, correct in ((1, counts.correct1), (5, counts.correct5)):
        theirs = [
            credit_of_the_release(row, label, k)
            for row, label in zip(scores.tolist(), labels.tolist(), strict=True)
        ]
        assert 0 < correct == sum(theirs) < 500


def test_the_five_best_are_of_the_exact_scores_though_rounding_makes_them_equal() -> None:
    scores = torch.tensor([0.10001, 0.2, 0.10003, 0.10002, 0.10004, 0.3, 0.10005]).log()[None]
    rows = judge_rows(scores, torch.tensor([0]))
    assert len(set(rows.probabilities[0].tolist())) == 3
    assert rows.top5.tolist() == [[5, 1, 6, 4, 2]]
    assert (rows.predicted.tolist(), rows.rank.tolist()) == ([5], [6])


def test_with_fewer_than_five_classes_everything_is_right_at_five() -> None:
    labels = np.array([0, 1, 2])
    rows = judge_rows(torch.eye(3).flip(0).log_softmax(1), torch.from_numpy(labels))
    counts = count_rows(labels, rows, 3)
    assert (counts.correct1, counts.correct5) == (1, 3)
    assert counts.confusion.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert rows.top5.tolist() == [[2, 0, 1], [1, 0, 2], [0, 1, 2]]
    assert counts.loss_sum == pytest.approx(float(rows.loss.sum()))


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(0, 40), seed=st.integers(0, 5))
def test_counts_of_parts_add_up_to_the_counts_of_the_whole(cut: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(40, 6, generator=generator).log_softmax(1)
    labels = torch.randint(0, 6, (40,), generator=generator)
    whole = _counts(scores, labels)
    parts = _counts(scores[:cut], labels[:cut]) + _counts(scores[cut:], labels[cut:])
    assert (parts.correct1, parts.correct5, parts.count) == (
        whole.correct1,
        whole.correct5,
        whole.count,
    )
    np.testing.assert_array_equal(parts.confusion, whole.confusion)
    np.testing.assert_array_equal(parts.class_correct5, whole.class_correct5)
    assert parts.loss_sum == pytest.approx(whole.loss_sum, rel=1e-14)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="finite"):
        judge_rows(torch.tensor([[0.0, float("nan")]]), torch.tensor([0]))


def _counts(scores: torch.Tensor, labels: torch.Tensor) -> Counts:
    return count_rows(labels.numpy(), judge_rows(scores, labels), scores.shape[1])
