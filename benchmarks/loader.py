"""The loader alone, seen from where a training sees it: an actor with a train worker's share."""

import time
from typing import Final

import ray

from alexnet.data.loader import load_batches
from benchmarks.bare_decode import bare_processes, subject
from benchmarks.bench import Bench, train_worker
from benchmarks.passes import Pass, Results, Stamp, Subject, compare, make_pass

FLOOR: Final = 0.6
WARM_UP_IMAGES: Final = 2048


class LoaderWorker:
    """Takes batches as fast as they come, in the place of a train worker."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def read(self, images: int) -> Pass:
        """Read the first `images` of a training, over as many epochs as they take."""
        bench, order = self._bench, self._bench.order
        started_s = time.perf_counter()
        batches = load_batches(
            bench.read_spec,
            order,
            bench.reading,
            first_step=0,
            stop_step=-(-images * order.steps_per_epoch // order.layout.num_rows),
            rank=0,
            world_size=1,
        )
        done, stamps = 0, []
        for batch in batches:
            batch.rows.images[:, ::32, ::32].max()  # the pages of the pixels are really fetched
            done += len(batch.rows)
            stamps.append(Stamp(time.perf_counter(), done))
        return make_pass(started_s, [stamps])


def measure(bench: Bench) -> Results:
    """Measure the loader in turn with the bare loop."""
    with bare_processes(bench) as processes, train_worker(LoaderWorker, bench) as worker:
        ray.get(worker.read.remote(WARM_UP_IMAGES))
        candidate = Subject(
            name="loader",
            what=f"alexnet.data.loader in an actor of {bench.placement.cpus_per_worker:g} CPU:"
            f" {bench.placement.tasks_per_worker} tasks of {bench.placement.cpus_per_task:g} CPU"
            " read, check, decode and crop in the order of a training; batches of"
            f" {bench.settings.global_batch} from the object store; no flip (that is the step's)",
            take=lambda: ray.get(worker.read.remote(bench.settings.images)),
        )
        return compare(
            "loader / bare decode",
            subject(processes, bench, name="bare decode, beside the loader", flip=True),
            candidate,
            quantity="steady",
            num_passes=bench.settings.passes,
            floor=FLOOR,
        )
