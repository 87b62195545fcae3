"""A worker ends itself when its driver no longer wants the training.

A Ray that outlives the driver's call, as a notebook's does, would go on with it alone: killing the
workers is no help, for Ray Train starts them again.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

EVERY_S: Final = 2.0


@contextmanager
def ending_when(is_stopped: Callable[[], bool]) -> Iterator[None]:
    """End this process as soon as `is_stopped`, asked every two seconds in the block, says so."""
    over = threading.Event()
    threading.Thread(target=_watch, args=(is_stopped, over), name="stop-watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(is_stopped: Callable[[], bool], over: threading.Event) -> None:
    while not over.wait(EVERY_S):
        if is_stopped():
            # Wherever the training stands: it may wait for other ranks, and whatever it writes is
            # made for kills.
            os._exit(1)
