"""One function over many things by threads: in order, a few ahead of use, never all at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

READERS: Final = 16
"""Small objects read at a time: a store answers later than it sends."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield `work(item)` of each item, in order; as many as there are threads are begun ahead.

    `items` is read in the caller's thread. With one thread, that is all there is. What is begun
    when the caller stops, or work raises, is waited for.
    """
    if threads == 1:
        yield from map(work, items)
        return
    pending = deque[Future[Result]]()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            if len(pending) == threads:
                yield pending.popleft().result()
            pending.append(pool.submit(work, item))
        while pending:
            yield pending.popleft().result()
