"""The loader's batches without Ray: one plain process, for tests, notebooks and a bare GPU box."""

from collections.abc import Iterator
from dataclasses import replace

from alexnet.data.batches import Batch, Rows, batches_of
from alexnet.data.reader import ShareSpec, open_reader, plan_stretches


def read_batches(spec: ShareSpec, *, first_step: int, stop_step: int) -> Iterator[Batch]:
    """Yield a rank's share of each global step, first_step to stop_step, as it is asked for.

    The same batches, to the byte, as `alexnet.data.loader.load_batches`.
    """
    reader = open_reader(spec)
    stretches = plan_stretches(
        reader.order, first_step=first_step, stop_step=stop_step, world_size=spec.world_size
    )
    share = {"rank": spec.rank, "world_size": spec.world_size}
    return batches_of(
        (_kept(rows) for stretch in stretches for rows in reader.blocks(stretch, **share)),
        reader.order,
        first_step=first_step,
        stop_step=stop_step,
        rank=spec.rank,
        ranks=spec.world_size,
    )


def _kept(rows: Rows) -> Rows:
    # The reader writes its next block over this one.
    return replace(rows, images=rows.images.copy())
