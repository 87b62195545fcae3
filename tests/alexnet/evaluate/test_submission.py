import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.evaluate.submission import (
    Errors,
    count_errors,
    ids_by_label,
    name_order,
    parse_submission,
    submission_text,
)
from infra.errors import DataError
from preprocessing.dataset.labels import make_classes

CLASSES = make_classes({f"n{number:08}": f"class {number}" for number in range(6)})
IDS = {f"n{number:08}": 1 + (7 * number + 2) % 6 for number in range(6)}
"""Not in the order of the WNIDs, as in the genuine devkit."""


def test_labels_get_the_devkits_ids() -> None:
    assert ids_by_label(CLASSES, IDS).tolist() == [3, 4, 5, 6, 1, 2]


def test_a_class_without_an_id_is_named() -> None:
    cats = make_classes({name: name for name in ("cats", "dogs", "n00000003")})
    with pytest.raises(DataError, match=r"2 of the network's 3 classes .* 'cats' first"):
        ids_by_label(cats, IDS)


def test_fewer_than_five_classes_are_refused() -> None:
    four = make_classes({wnid: wnid for wnid in list(IDS)[:4]})
    with pytest.raises(DataError, match="4 classes apart, and a line holds 5"):
        ids_by_label(four, IDS)


def official(*numbers: int, kind: str = "test") -> list[str]:
    return [f"ILSVRC2012_{kind}_{number:08}.JPEG" for number in numbers]


def test_images_come_in_the_order_of_their_names() -> None:
    assert name_order(official(2, 3, 1)).tolist() == [2, 0, 1]
    assert name_order(["b.jpg", "a.jpg"]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (official(1, 3), "image 2 should be ILSVRC2012_test_00000002.JPEG and is .*00000003"),
        (official(2, 1, 2), "image 3 should be"),
        (official(2), "image 1 should be"),
        ([*official(1), *official(2, kind="val")], "image 1 should be ILSVRC2012_val|image 2"),
        ([*official(1, 2), "cat.jpg"], "image 3 should be .* and is cat.jpg"),
        (["a.jpg", "b.jpg", "a.jpg"], "two images are called a.jpg"),
    ],
)
def test_a_set_with_holes_or_strangers_is_refused(names: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        name_order(names)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 1000), min_size=5, max_size=5, unique=True), min_size=1))
def test_what_is_written_is_read_back(rows: list[list[int]]) -> None:
    ids = np.array(rows, np.int64)
    text = submission_text(ids)
    assert text.count(b"\n") == len(rows)
    assert parse_submission(text, "answers").tolist() == rows


@pytest.mark.parametrize(
    "line",
    [
        "1 2 3 4",
        "1 2 3 4 5 6",
        "1 2 3 4 x",
        "0 1 2 3 4",
        "1 2 3 4 -5",
        "",
        "1.0 2 3 4 5",
        f"1 2 3 4 {2**64}",
    ],
)
def test_a_line_that_is_not_five_ids_is_named(line: str) -> None:
    with pytest.raises(DataError, match=r"answers\.txt: line 2 is"):
        parse_submission(f"1 2 3 4 5\n{line}\n1 2 3 4 5\n".encode(), "answers.txt")


def test_a_line_with_an_id_twice_is_named() -> None:
    with pytest.raises(DataError, match=r"answers\.txt: line 2 has an id twice, '1 2 3 2 5'"):
        parse_submission(b"1 2 3 4 5\n1 2 3 2 5\n", "answers.txt")


def test_errors_are_counted_at_one_and_at_five() -> None:
    ids = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]])
    assert count_errors(ids, np.array([1, 5, 6])) == Errors(count=3, wrong1=2, wrong5=1)
    with pytest.raises(DataError, match="3 lines of answers, and a ground truth of 2"):
        count_errors(ids, np.array([1, 5]))
