"""What every benchmark is given, and the worker that two of them measure from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from alexnet.data.loader import LoaderResources
from alexnet.data.order import Order
from alexnet.data.reader import ReadSpec, order_of
from alexnet.train.placement import Placement
from benchmarks.settings import Settings
from preprocessing.dataset.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A prepared dataset, and how the machine is shared out for a training of one worker."""

    settings: Settings
    dataset: Path
    manifest: Manifest
    cpus: int
    placement: Placement

    @property
    def order(self) -> Order:
        """The order of the training."""
        spec = self.read_spec
        return order_of(self.manifest, spec.seed, spec.global_batch, spec.order_kind)

    @property
    def read_spec(self) -> ReadSpec:
        """What the one worker reads."""
        return ReadSpec(
            dataset_uri=str(self.dataset),
            seed=0,
            global_batch=self.settings.global_batch,
            order_kind="reshuffled",
            crop_px=self.settings.crop_px,
            crop_sharing=1,
            resized_crop=None,
        )

    @property
    def reading(self) -> LoaderResources:
        """What the worker's reading tasks may use, as alexnet/train/worker.py gives it to them."""
        return LoaderResources(
            self.placement.cpus_per_task,
            self.placement.tasks_per_worker,
            at_home=self.placement.reads_at_home,
        )


@contextmanager
def train_worker(cls: type, bench: Bench) -> Iterator[Any]:
    """Run `cls(bench)` as an actor that books what a train worker books; it ends with the block."""
    placement = bench.placement
    actor = (
        ray.remote(cls)
        .options(num_cpus=placement.cpus_per_worker, num_gpus=int(placement.use_gpu))
        .remote(bench)
    )
    try:
        yield actor
    finally:
        ray.kill(actor)
