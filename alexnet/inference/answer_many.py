"""Inference over Ray Data: rows of a plan in, blocks of answers out, in order."""

import logging
import math
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from alexnet.evaluate.scores import SCORE_BATCH_ROWS
from alexnet.inference.input_parts import InputPart, cut_parts
from alexnet.inference.spec import InferenceRunner, InferenceSpec
from alexnet.trained import TrainedNetwork
from infra.errors import ProjectError
from infra.ray_data import configure_ray_data, error_block, raise_error_in
from infra.ray_runtime import Resources, cluster_resources, lost_work_named
from infra.store import open_store

TASK_ROWS: Final = 8 * SCORE_BATCH_ROWS
"""Images of a task at most: seconds of work, as the executor looks at tasks ten times a second."""
_TASKS_A_WORKER: Final = 4
"""At least, where there are few images: so that all end at about the same time."""
_LOOK_INTO: Final = (
    "see Ray's logs: memory may be short, or a file crash its decoder; name fewer files to find it"
)


def answer_many(
    trained: TrainedNetwork, parts: Sequence[InputPart], spec: InferenceSpec
) -> Generator[pa.Table]:
    """Yield tables of answers in the order of the parts; Ray must be up until they are closed.

    A task at a time on each GPU, else on each CPU with one thread. The answers are those of the
    spec's runner in one process. A process that dies costs its task, which is done again.

    Raises:
        DataError: the network gives no numbers.
        StoreError: a remote place stayed away.
        ServiceError: processes kept dying.
        NoRoomForWorkers: they have found no GPU or CPU for long: others hold them.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    pool = plan_pool(cluster_resources(), sum(part.count for part in parts))
    configure_ray_data(pool.workers * pool.cpus, gpus=pool.workers * pool.gpus)
    job = _job_of(trained, spec, num_threads=pool.threads)
    plan = [_to_plan(task) for task in cut_parts(parts, pool.task_rows)]
    answers = _answered(ray.data.from_arrow(plan), job, pool)
    with lost_work_named("prediction's processes", remedy=_LOOK_INTO):
        for bundle in answers.iter_internal_ref_bundles():
            for reference in bundle.block_refs:
                table = ray.get(reference)
                raise_error_in(table)
                yield table


@dataclass(frozen=True, slots=True)
class Pool:
    """How many tasks run at once, what each books, and how much each is given."""

    workers: int
    """Tasks at once."""
    cpus: float
    gpus: float
    threads: int
    """That read and decode, in each task."""
    task_rows: int


def plan_pool(there: Resources, num_images: int) -> Pool:
    """Choose a task a GPU, else one a CPU, but no more than there are blocks. Pure."""
    slots = max(1, int(there.gpus or there.cpus))
    num_blocks = max(1, math.ceil(num_images / SCORE_BATCH_ROWS))
    workers = min(slots, num_blocks)
    blocks = math.ceil(num_blocks / (workers * _TASKS_A_WORKER))
    return Pool(
        workers=workers,
        cpus=min(1.0, there.cpus / workers),
        gpus=1.0 if there.gpus else 0.0,
        threads=max(1, int(there.cpus // workers)) if there.gpus else 1,
        task_rows=min(TASK_ROWS, blocks * SCORE_BATCH_ROWS),
    )


def _answered(plan: Dataset, job: "_Job", pool: Pool) -> Dataset:
    """Run each row of the plan as a task."""
    if not pool.gpus:
        return plan.map_batches(
            _run_task,
            batch_size=1,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(size=pool.workers),
            num_cpus=pool.cpus,
            fn_kwargs={"job": job},
        )
    return plan.map_batches(
        _Process,
        batch_size=1,  # on GPUs Ray insists on a number
        batch_format="pyarrow",
        # Actors, though they start slower than tasks: a process stays with the GPU that it saw
        # first, whichever Ray gives to its next task.
        compute=ActorPoolStrategy(size=pool.workers),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        fn_constructor_args=(job,),
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """What every task needs; equal for the same model, spec and threads."""

    model: str
    """`TrainedNetwork.digest`."""
    spec: InferenceSpec
    num_threads: int
    trained: TrainedNetwork = field(compare=False)


def _job_of(trained: TrainedNetwork, spec: InferenceSpec, *, num_threads: int) -> _Job:
    return _Job(trained.digest, spec, num_threads, trained)


def _run_task(plan: pa.Table, job: _Job) -> Iterator[pa.Table]:
    """Run one task. A deliberate error travels as a block."""
    try:
        yield from _runner_of(job).run(_from_plan(plan))
    except ProjectError as error:
        yield error_block(error)


class _Process:
    """A process that runs tasks and keeps its GPU."""

    def __init__(self, job: _Job) -> None:
        self._job = job

    def __call__(self, plan: pa.Table) -> Iterator[pa.Table]:
        """Run one task."""
        yield from _run_task(plan, self._job)


@lru_cache(maxsize=1)
def _runner_of(job: _Job) -> InferenceRunner:
    """Return this process's network, which is kept between tasks."""
    return job.spec.runner(job.trained, num_threads=job.num_threads)


def _to_plan(task: Sequence[InputPart]) -> pa.Table:
    """Write a task's parts as one row of plain values: what Ray Data moves without pickling.

    Places as bytes: a file's name may be no UTF-8.
    """
    parts = [
        {
            "store": os.fsencode(part.store.uri),
            "key": os.fsencode(part.key),
            "path": part.path,
            "size_bytes": part.size_bytes,
            "rows": None if part.rows is None else list(part.rows),
            "column": part.column,
            "labelled": part.labelled,
            "refused": part.refused,
        }
        for part in task
    ]
    return pa.table({"parts": pa.array([parts], pa.list_(pa.struct(_PART)))})


def _from_plan(plan: pa.Table) -> list[InputPart]:
    parts = plan["parts"].to_pylist()[0]
    stores = {uri: open_store(os.fsdecode(uri)) for uri in {row["store"] for row in parts}}
    return [
        InputPart(
            store=stores[row.pop("store")],
            key=os.fsdecode(row.pop("key")),
            rows=None if (rows := row.pop("rows")) is None else (rows[0], rows[1]),
            **row,
        )
        for row in parts
    ]


_PART: Final = [
    ("store", pa.binary()),
    ("key", pa.binary()),
    ("path", pa.string()),
    ("size_bytes", pa.int64()),
    ("rows", pa.list_(pa.int64())),
    ("column", pa.string()),
    ("labelled", pa.bool_()),
    ("refused", pa.string()),
]
