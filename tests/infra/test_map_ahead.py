import threading
from collections.abc import Iterator

import pytest

from infra.map_ahead import map_ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 12])
def test_results_come_in_order(threads: int, count: int) -> None:
    assert list(map_ahead(lambda n: n * n, range(count), threads)) == [n * n for n in range(count)]


def test_as_many_as_there_are_threads_are_begun_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(20):
            taken.append(n)
            yield n

    results = map_ahead(lambda n: n, items(), 3)
    assert next(results) == 0
    assert len(taken) == 4
    assert list(results) == list(range(1, 20))


def test_two_work_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=20)
    assert len(list(map_ahead(lambda _: together.wait(), range(2), 2))) == 2


def test_an_error_is_raised_in_its_place_and_the_rest_is_left() -> None:
    begun: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        return 1 // (3 - n)

    results = map_ahead(work, range(100), 2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert max(begun) < 8
