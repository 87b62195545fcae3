import numpy as np

from alexnet.figures.panel import Guess, best_guesses, choose_rows


def test_half_are_wrong_half_right_and_of_different_classes() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3] * 5)
    right = np.array([True, False] * 20)
    rows = choose_rows(labels, right)
    assert len(rows) == 8
    assert rows == sorted(rows)
    assert sum(right[rows]) == 4
    assert sorted(labels[[row for row in rows if right[row]]]) == [0, 1, 2, 3]
    assert sorted(labels[[row for row in rows if not right[row]]]) == [0, 1, 2, 3]
    assert choose_rows(labels, right) == rows


def test_the_first_of_the_split_are_taken() -> None:
    labels = np.array([5, 5, 5, 6, 5, 6, 7, 7])
    assert choose_rows(labels, np.ones(8, bool), 3) == [0, 3, 6]
    assert choose_rows(labels, np.ones(8, bool), 4) == [0, 1, 3, 6]


def test_where_one_kind_is_rare_the_other_fills_up() -> None:
    labels = np.arange(20)
    right = labels != 7
    rows = choose_rows(labels, right)
    assert len(rows) == 8
    assert 7 in rows
    rows = choose_rows(labels, ~right)
    assert len(rows) == 8
    assert 7 in rows
    assert choose_rows(labels[:3], right[:3]) == [0, 1, 2]
    assert choose_rows(labels[:0], right[:0]) == []


def test_the_best_guesses_come_first_and_ties_go_to_the_lower_label() -> None:
    probabilities = np.array([0.125, 0.5, 0.125, 0.25], np.float16)
    assert best_guesses(probabilities, 3) == [Guess(1, 0.5), Guess(3, 0.25), Guess(0, 0.125)]
    assert len(best_guesses(probabilities)) == 4
