"""The loader's batches without Ray: one plain process, for tests, notebooks and a bare GPU box."""

from collections.abc import Iterator
from dataclasses import replace

from alexnet.data.batches import Batch, Rows, batches_of
from alexnet.data.reader import ReadSpec, open_reader, plan_stretches


def read_batches(
    spec: ReadSpec, *, first_step: int, stop_step: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Yield a rank's share of each global step, first_step to stop_step, as it is asked for.

    The same batches, to the byte, as `alexnet.data.loader.load_batches`.
    """
    reader = open_reader(spec)
    stretches = plan_stretches(
        reader.order, first_step=first_step, stop_step=stop_step, world_size=world_size
    )
    blocks = (reader.blocks(s, rank=rank, world_size=world_size) for s in stretches)
    return batches_of(
        (_kept(rows) for of_stretch in blocks for rows in of_stretch),
        reader.order,
        first_step=first_step,
        stop_step=stop_step,
        rank=rank,
        world_size=world_size,
    )


def _kept(rows: Rows) -> Rows:
    # The reader writes its next block over this one.
    return replace(rows, images=rows.images.copy())
