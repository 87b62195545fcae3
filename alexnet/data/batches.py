"""Blocks of rows, as tasks send them, → one batch a step, gap-free. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from alexnet.data.order import Order, share_bounds
from infra.errors import ServiceError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of one rank, in order."""

    images: npt.NDArray[np.uint8]
    """Crops, (n, crop, crop, 3), RGB; possibly a read-only view."""
    labels: Ints
    sample_ids: Ints
    positions: Ints
    """Each row's place in its global batch."""
    steps: Ints
    """Each row's global step."""

    def __len__(self) -> int:
        return len(self.labels)

    def cut(self, start: int, stop: int) -> "Rows":
        """Return rows start to stop, as views."""
        return Rows(*(getattr(self, field.name)[start:stop] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's share of a global batch, possibly empty."""

    rows: Rows
    epoch: int
    step: int
    """Global step, 0-based, over all epochs."""
    batch_rows: int
    """Rows of the global batch, all ranks together."""


def batches_of(
    blocks: Iterable[Rows],
    order: Order,
    *,
    first_step: int,
    stop_step: int,
    rank: int,
    world_size: int,
) -> Iterator[Batch]:
    """Cut a rank's stream of rows into its share of each global step, first_step to stop_step.

    A batch that lies in one block is a view of it.

    Raises:
        ServiceError: a row is missing, late or out of order; training on it would be wrong.
    """
    source = iter(blocks)
    held: list[Rows] = []
    for step in range(first_step, stop_step):
        epoch, epoch_step = divmod(step, order.steps_per_epoch)
        batch_rows = order.batch_rows(epoch_step)
        start, stop = share_bounds(batch_rows, rank, world_size)
        while sum(map(len, held)) < stop - start:
            held.append(_next_block(source, step))
        rows, held = _take(held, stop - start)
        if not (rows.steps == step).all():
            raise _gap(step)
        yield Batch(rows, epoch, step, batch_rows)


def _next_block(source: Iterator[Rows], step: int) -> Rows:
    try:
        return next(source)
    except StopIteration:
        raise _gap(step) from None


def _take(held: list[Rows], count: int) -> tuple[Rows, list[Rows]]:
    if not held:
        return _NO_ROWS, held
    if len(held[0]) >= count:
        return held[0].cut(0, count), [held[0].cut(count, len(held[0])), *held[1:]]
    joined = Rows(*(np.concatenate([getattr(r, f.name) for r in held]) for f in fields(Rows)))
    return joined.cut(0, count), [joined.cut(count, len(joined))]


def _gap(step: int) -> ServiceError:
    return ServiceError(
        f"the loader's rows for step {step} are missing or out of order",
        remedy="run again: training goes on from the last checkpoint; if it repeats, report it",
    )


_NO_ROWS = Rows(
    images=np.empty((0, 1, 1, 3), np.uint8),
    labels=np.empty(0, np.int64),
    sample_ids=np.empty(0, np.int64),
    positions=np.empty(0, np.int64),
    steps=np.empty(0, np.int64),
)
