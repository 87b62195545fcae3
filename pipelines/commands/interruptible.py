"""Ctrl-C and SIGTERM as what they are to a user: an end that says what is left."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import Interrupted


@contextmanager
def interruptible(what_is_left: str, remedy: str = "run the same command again") -> Iterator[None]:
    """Turn an interrupt of the block into an error that says what it leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {what_is_left}", remedy=remedy) from None
