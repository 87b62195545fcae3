import threading
from concurrent.futures import Future

import pytest

from infra.thread_pool import thread_pool


def test_all_work_is_done_by_the_end() -> None:
    with thread_pool(2) as threads:
        futures = [threads.submit(pow, n, 2) for n in range(20)]
    assert [future.result(0) for future in futures] == [n * n for n in range(20)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_what_has_not_begun_is_dropped_after_an_error(error: type[BaseException]) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        has_begun.set()
        may_end.wait(20)

    def fail() -> None:
        with thread_pool(1) as threads:
            futures.extend(threads.submit(work) for _ in range(3))
            assert has_begun.wait(20)
            threading.Timer(0.2, may_end.set).start()
            raise error

    futures: list[Future[None]] = []
    with pytest.raises(error):
        fail()
    assert [future.cancelled() for future in futures] == [False, True, True]
