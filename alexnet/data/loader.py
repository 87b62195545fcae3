"""Ray Data runs the order: each rank has one Dataset of stretches, made of one fused stage.

Why not `read_parquet` and `streaming_split`: they drop rows, have no position, start again from
row 0 after a failure and deal rows anew at another world size; and small blocks leave two thirds
of the machine idle, for the executor looks at its tasks ten times a second. The measurements
behind each setting are in docs/architecture.md, "Loader".
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray
from ray.data import TaskPoolStrategy

from alexnet.data.batches import Batch, Rows, batches_of
from alexnet.data.order import WINDOW_ROWS, Order
from alexnet.data.reader import (
    OUTPUT_BLOCK_ROWS,
    ReadSpec,
    Stretch,
    open_reader,
    plan_stretches,
)
from infra.errors import ProjectError
from infra.ray_data import configure_ray_data, error_block, raise_error_in
from infra.ray_runtime import this_nodes_store_bytes

STRETCHES_PER_EXECUTION: Final = 1024
"""One execution reads about a million rows: its start (0.3 s) is nothing, its plan stays small."""
UNREAD_BLOCKS: Final = WINDOW_ROWS // OUTPUT_BLOCK_ROWS
"""Blocks a task may be ahead of its reader: all of its window, so that it never stops half-way."""
STORE_PART: Final = 0.5
"""Of a node's object store, what unread blocks may fill: Ray Data's own part of all stores."""


@dataclass(frozen=True, slots=True)
class LoaderResources:
    """What the reading tasks of one rank may use."""

    cpus_per_task: float
    num_tasks: int
    """Tasks at once; the cap that keeps the ranks of a node from crowding each other."""
    at_home: bool
    """Whether they run on this node only; else anywhere, as Ray Data spreads them."""
    ranks_here: int = 1
    """Ranks of this node, which share its object store."""


def load_batches(
    spec: ReadSpec,
    order: Order,
    resources: LoaderResources,
    *,
    first_step: int,
    stop_step: int,
    rank: int,
    world_size: int,
) -> Iterator[Batch]:
    """Yield a rank's share of each global step, first_step to stop_step, read ahead by Ray Data.

    Raises:
        DataError: stored bytes are damaged.
        ServiceError: rows are missing or out of order.
    """
    stretches = plan_stretches(
        order, first_step=first_step, stop_step=stop_step, world_size=world_size
    )
    blocks = _execute(spec, stretches, resources, rank=rank, world_size=world_size)
    return batches_of(
        blocks,
        order,
        first_step=first_step,
        stop_step=stop_step,
        rank=rank,
        world_size=world_size,
    )


def read_stretch(
    item: dict[str, Any], spec: ReadSpec, rank: int, world_size: int
) -> Iterator[pa.Table]:
    """Run one task: a stretch in, its blocks out. A deliberate error travels as a block."""
    stretch = Stretch(int(item["first_step"][0]), int(item["stop_step"][0]))
    try:
        reader = open_reader(spec)
        for rows in reader.blocks(stretch, rank=rank, world_size=world_size):
            yield _to_table(rows)
    except ProjectError as error:
        yield error_block(error)


def _execute(
    spec: ReadSpec,
    stretches: list[Stretch],
    resources: LoaderResources,
    *,
    rank: int,
    world_size: int,
) -> Iterator[Rows]:
    _configure(spec.crop_px, resources)
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    for start in range(0, len(stretches), STRETCHES_PER_EXECUTION):
        part = stretches[start : start + STRETCHES_PER_EXECUTION]
        items = [{"first_step": s.first_step, "stop_step": s.stop_step} for s in part]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            read_stretch,
            batch_size=1,
            zero_copy_batch=True,
            num_cpus=resources.cpus_per_task,
            compute=TaskPoolStrategy(size=resources.num_tasks),
            fn_kwargs={"spec": spec, "rank": rank, "world_size": world_size},
            label_selector=here if resources.at_home else None,
        )
        for bundle in dataset.iter_internal_ref_bundles():
            for ref in bundle.block_refs:
                yield _from_table(ray.get(ref), spec.crop_px)


def _configure(crop_px: int, resources: LoaderResources) -> None:
    """Set this process's Ray Data: one block a yield, and all of a task's may be unread."""
    store_bytes = math.inf
    if resources.at_home:
        # Else eight ranks on one of eight nodes might fill four times their node's, and spill.
        store_bytes = STORE_PART * this_nodes_store_bytes() / resources.ranks_here
    context = configure_ray_data(
        resources.num_tasks * resources.cpus_per_task, store_bytes=store_bytes
    )
    # Below a yield's size, so that each leaves at once as a block of its own, uncopied.
    context.target_max_block_size = int(0.9 * OUTPUT_BLOCK_ROWS * crop_px * crop_px * 3)
    if hasattr(context, "_max_num_blocks_in_streaming_gen_buffer"):
        context._max_num_blocks_in_streaming_gen_buffer = UNREAD_BLOCKS


def _to_table(rows: Rows) -> pa.Table:
    size = int(np.prod(rows.images.shape[1:]))
    images = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(size), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows.images))]
    )
    return pa.table(
        {
            "image": images,
            "label": rows.labels,
            "sample_id": rows.sample_ids,
            "position": rows.positions,
            "step": rows.steps,
        }
    )


def _from_table(table: pa.Table, crop_px: int) -> Rows:
    raise_error_in(table)
    image = table.column("image").combine_chunks()
    if isinstance(image, pa.ChunkedArray):
        image = image.chunk(0)
    pixels = np.frombuffer(image.buffers()[1], np.uint8)
    size = crop_px * crop_px * 3
    pixels = pixels[image.offset * size : (image.offset + len(image)) * size]
    return Rows(
        images=pixels.reshape(-1, crop_px, crop_px, 3),
        labels=table["label"].to_numpy(),
        sample_ids=table["sample_id"].to_numpy(),
        positions=table["position"].to_numpy(),
        steps=table["step"].to_numpy(),
    )
