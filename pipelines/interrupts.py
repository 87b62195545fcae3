"""Ctrl-C and SIGTERM end a command with one line, not with a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import Interrupted


@contextmanager
def interruptible(what_is_left: str, remedy: str = "run the same command again") -> Iterator[None]:
    """Raise Interrupted, saying what is left, where the block is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {what_is_left}", remedy=remedy) from None
