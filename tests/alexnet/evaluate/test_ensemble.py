import itertools
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alexnet.evaluate.ensemble import (
    GRID,
    MAX_PARTS,
    Parts,
    Rivals,
    mix,
    parts_of,
    search_weights,
)

Members = list[npt.NDArray[np.float16]]
Labels = npt.NDArray[np.int64]


@st.composite
def evaluations(draw: st.DrawFn) -> tuple[Members, Labels]:
    """Some members' probabilities of the same images; coarse ones, so that there are ties."""
    num_members, count = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    num_classes, seed = draw(st.integers(2, 9)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    levels = draw(st.sampled_from([2, 5, 1000]))
    odds = rng.integers(0, levels, (num_members, count, num_classes)) + 1e-9
    probabilities = (odds / odds.sum(axis=2, keepdims=True)).astype(np.float16)
    return list(probabilities), rng.integers(0, num_classes, count)


def slow_ranks(members: Members, labels: Labels, weights: list[Fraction]) -> list[int]:
    """Image by image, class by class, in exact arithmetic."""
    ranks = []
    for row, label in enumerate(labels):
        mean = [
            sum(w * Fraction(float(p[row, c])) for w, p in zip(weights, members, strict=True))
            for c in range(members[0].shape[1])
        ]
        before = [c for c, p in enumerate(mean) if (-p, c) < (-mean[label], label)]
        ranks.append(len(before))
    return ranks


@settings(deadline=None)
@given(evaluations(), st.data())
def test_ranks_are_those_of_the_average_computed_exactly(
    drawn: tuple[Members, Labels], data: st.DataObject
) -> None:
    members, labels = drawn
    thousandths = data.draw(
        st.lists(st.integers(0, 1000), min_size=len(members), max_size=len(members))
    )
    assume(any(thousandths))
    weights = [Fraction(number, 1000) for number in thousandths]
    rivals, parts = Rivals.of(members, labels), parts_of(weights)
    expected = slow_ranks(members, labels, weights)
    assert rivals.ranks(parts).tolist() == expected
    tally = rivals.tally(parts)
    assert (tally.count, tally.correct1) == (len(labels), expected.count(0))
    assert tally.correct5 == sum(rank < min(5, members[0].shape[1]) for rank in expected)
    mixed = mix(members, labels, parts, rivals)
    assert mixed.rank.tolist() == expected
    assert ((mixed.predicted == labels) == (mixed.rank == 0)).all()
    assert (mixed.top5 == labels[:, None]).any(axis=1).sum() == tally.correct5
    mean = np.average(np.stack(members).astype(np.float64), axis=0, weights=thousandths)
    np.testing.assert_allclose(mixed.probabilities, mean, atol=2**-11)
    own = mean[np.arange(len(labels)), labels]
    np.testing.assert_allclose(tally.loss, -np.log(np.maximum(own, 2.0**-25)).mean())


@settings(deadline=None)
@given(evaluations(), st.data())
def test_one_member_of_weight_one_gives_its_own_counts(
    drawn: tuple[Members, Labels], data: st.DataObject
) -> None:
    members, labels = drawn
    only = data.draw(st.integers(0, len(members) - 1))
    parts = tuple(int(member == only) for member in range(len(members)))
    alone = Rivals.of([members[only]], labels)
    assert Rivals.of(members, labels).tally(parts) == alone.tally((1,)) == alone.tally((7,))


@settings(deadline=None)
@given(evaluations(), st.data())
def test_the_order_of_the_members_changes_nothing(
    drawn: tuple[Members, Labels], data: st.DataObject
) -> None:
    members, labels = drawn
    parts = data.draw(st.lists(st.integers(0, 9), min_size=len(members), max_size=len(members)))
    assume(any(parts))
    order = data.draw(st.permutations(range(len(members))))
    turned = Rivals.of([members[member] for member in order], labels)
    there = Rivals.of(members, labels).tally(tuple(parts))
    assert turned.tally(tuple(parts[member] for member in order)) == there


@given(evaluations())
@settings(max_examples=50, deadline=None)
def test_a_search_is_never_worse_than_equal_weights_nor_than_any_neighbour(
    drawn: tuple[Members, Labels],
) -> None:
    rivals = Rivals.of(*drawn)
    found = search_weights(rivals)
    assert found == search_weights(Rivals.of(*drawn))
    assert rivals.tally(found).cost <= rivals.tally((1,) * len(drawn[0])).cost


def test_a_search_of_two_finds_the_best_of_the_whole_grid() -> None:
    """Two members that err on different images; all 441 mixtures are tried beside it."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 8, 400)
    odds = rng.gamma(0.5, size=(2, 400, 8)) + 1e-6
    odds[0, np.arange(0, 400, 2), labels[::2]] += 1.0
    odds[1, np.arange(1, 400, 2), labels[1::2]] += 0.5
    rivals = Rivals.of(list((odds / odds.sum(axis=2, keepdims=True)).astype(np.float16)), labels)
    grid = itertools.product(range(GRID + 1), repeat=2)
    errors5 = min(rivals.tally(parts).cost[0] for parts in grid if any(parts))
    found = rivals.tally(search_weights(rivals))
    assert found.cost[0] == errors5 < rivals.tally((1, 1)).cost[0]
    assert found.correct5 > max(rivals.tally(parts).correct5 for parts in ((1, 0), (0, 1)))


def test_a_search_prefers_top_five_to_top_one() -> None:
    """Of weights w and 1: image 0 is right at 1 from w = 0.3 on, the others at 5 up to w = 0.6."""
    first = np.array([[5, 2, 1, 1, 0, 0, 0], [0, 10, 10, 10, 10, 10, 10], [0, 1, 1, 1, 1, 1, 1]])
    second = np.array([[9, 11, 0, 0, 0, 0, 0], [1, 9, 0, 0, 0, 0, 0], [1, 9, 0, 0, 0, 0, 0]])
    members = [(odds / odds.sum(1, keepdims=True)).astype(np.float16) for odds in (first, second)]
    rivals = Rivals.of(members, np.zeros(3, np.int64))
    assert rivals.tally((1, 1)).cost[:2] == (2, 2)
    assert rivals.tally((1, 10)).cost[:2] == (0, 3)
    found = search_weights(rivals)
    assert 0.29 < found[0] / found[1] < 0.6
    assert rivals.tally(found).cost[:2] == (0, 2)


@settings(deadline=None)
@given(evaluations(), st.data())
def test_some_images_are_tallied_as_if_there_were_no_others(
    drawn: tuple[Members, Labels], data: st.DataObject
) -> None:
    members, labels = drawn
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(labels) - 1), min_size=1))))
    part = Rivals.of(members, labels).of_images(rows)
    alone = Rivals.of([member[rows] for member in members], labels[rows])
    equal = (1,) * len(members)
    assert part.tally(equal) == alone.tally(equal)


def test_many_images_are_the_sum_of_their_blocks() -> None:
    rng = np.random.default_rng(5)
    odds = rng.gamma(0.3, size=(2, 2500, 11)) + 1e-9
    members = list((odds / odds.sum(axis=2, keepdims=True)).astype(np.float16))
    labels = rng.integers(0, 11, 2500)
    mean = 2 * members[0].astype(np.float64) + members[1]
    own = mean[np.arange(2500), labels][:, None]
    lower = np.arange(11) < labels[:, None]
    expected = ((mean > own) | ((mean == own) & lower)).sum(axis=1)
    assert (Rivals.of(members, labels).ranks((2, 1)) == expected).all()


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("0.3 0.7", (3, 7)),
        ("1 1", (1, 1)),
        ("1/3 2/3", (1, 2)),
        ("2 0", (1, 0)),
        ("0 5e-1", (0, 1)),
    ],
)
def test_weights_become_whole_parts(written: str, parts: Parts) -> None:
    assert parts_of([Fraction(word) for word in written.split()]) == parts


@pytest.mark.parametrize("written", ["0 0", "-1 2", "0.1234567891 1"])
def test_weights_that_cannot_be_are_refused(written: str) -> None:
    with pytest.raises(ValueError, match="weights"):
        parts_of([Fraction(word) for word in written.split()])


def test_the_greatest_parts_are_still_exact() -> None:
    """Two mixtures that differ by the smallest step of float16 in one of 2^28 parts."""
    tiny = float(np.finfo(np.float16).smallest_subnormal)
    members = [np.array([[0.5, 0.5]], np.float16), np.array([[tiny, 0.0]], np.float16)]
    rivals = Rivals.of(members, np.array([1]))
    assert rivals.ranks((MAX_PARTS - 1, 1)).tolist() == [1]
    members[1] = np.array([[0.0, tiny]], np.float16)
    assert Rivals.of(members, np.array([1])).ranks((MAX_PARTS - 1, 1)).tolist() == [0]
