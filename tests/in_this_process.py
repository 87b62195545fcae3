"""Tasks in place of Ray's, one after the other in this process."""

from collections.abc import Callable, Generator, Sequence
from typing import Any


def run_here(
    work: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any], **_: Any
) -> Generator[Any, None, None]:
    """In place of `preprocessing.building.execute.run_tasks`: its log and its errors are ours."""
    for item in items:
        yield work(shared, item)
