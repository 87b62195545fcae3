import pytest

from preprocessing.building.refusal import check_rejects
from preprocessing.dataset.manifest import Reject
from preprocessing.errors import TooManyRejects


def rejects(count: int) -> list[Reject]:
    return [
        Reject(
            split="train",
            sample_id=i,
            archive="train.tar",
            member=f"{i}.JPEG",
            start=0,
            size_bytes=1,
            reason="not an image",
            first_bytes="00",
        )
        for i in range(count)
    ]


def test_as_many_rejects_as_allowed_pass() -> None:
    check_rejects(rejects(3), 3)


def test_each_reject_is_named_with_reason_and_the_way_out() -> None:
    with pytest.raises(TooManyRejects) as caught:
        check_rejects(rejects(3), 2)
    assert all(f"train.tar: {i}.JPEG: not an image" in caught.value.problem for i in range(3))
    assert "--set prepare.max_rejects=3" in caught.value.remedy


def test_at_most_ten_are_named() -> None:
    with pytest.raises(TooManyRejects, match="and 5 more") as caught:
        check_rejects(rejects(15), 0)
    assert caught.value.problem.count("JPEG") == 10


def test_of_some_only_no_sum_is_named() -> None:
    with pytest.raises(TooManyRejects, match="at least 3 images") as caught:
        check_rejects(rejects(3), 2, listed_in="x/y", are_all=False)
    assert caught.value.problem.endswith("\n  listed in x/y")
    assert "max_rejects=" not in caught.value.remedy
