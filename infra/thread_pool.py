"""Threads for a block of work; what they have not begun when it ends with an error is dropped."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def thread_pool(max_workers: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool; the block's end waits for its work, after an error only for what has begun.

    A plain pool does all that is queued first: with a store that is away each read takes minutes.
    """
    with ThreadPoolExecutor(max_workers) as threads:
        try:
            yield threads
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
