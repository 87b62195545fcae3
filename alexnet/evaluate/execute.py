"""Evaluate over Ray: which worker does which blocks, and the commit of what came back."""

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import ray
import torch

from alexnet.evaluate.blocks import Block, BlockReader, plan_blocks
from alexnet.evaluate.counts import count_rows
from alexnet.evaluate.evaluate import BlockEvaluator
from alexnet.evaluate.evaluation import (
    RECEIPT,
    Evaluation,
    accuracy_of,
    read_evaluation,
    validation_digest,
)
from alexnet.evaluate.rows import BlockResult, View, join_results
from alexnet.evaluate.settings import EvaluateSettings
from alexnet.evaluate.tables import (
    CONFUSION,
    PER_CLASS,
    PREDICTIONS,
    confusion_table,
    per_class_table,
    predictions_table,
)
from alexnet.trained import TrainedNetwork
from infra.commit import commit_receipt, write_object
from infra.errors import DataError, RecipeError, ServiceError
from infra.parquet import parquet_bytes
from infra.progress import ProgressReport, no_progress
from infra.ray_runtime import cluster_resources, lost_work_named
from infra.store import ObjectStore
from preprocessing.dataset.manifest import Manifest

log = logging.getLogger(__name__)

SILENCE_S: Final = 900.0
"""Of all workers: longer than any block takes, a store that is away for minutes included."""


def evaluate(
    *,
    trained: TrainedNetwork,
    dataset: ObjectStore,
    manifest: Manifest,
    settings: EvaluateSettings,
    place: ObjectStore,
    key: str,
    progress: ProgressReport = no_progress,
) -> Evaluation:
    """Evaluate a network on a dataset's val split and commit the result; Ray must be up.

    Where another process committed one meanwhile, that one holds and is returned.

    Args:
        trained: the network; it brings the statistics it was trained with.
        dataset: where the images lie; any dataset with the same classes, stored at any size:
            each image is brought to the size that the network was trained on.
        manifest: that dataset's.
        settings: views and workers.
        place: the evaluation's folder.
        key: what the folder is named by.
        progress: called with (images done, images in all).

    Raises:
        RecipeError: the network has other classes.
        DataError: stored bytes are damaged, or images are missing.
        ServiceError: workers kept dying.
    """
    _check_classes(trained, dataset, manifest)
    result = _run(_Job(dataset, manifest, trained, settings.views), settings, progress)
    if len(result.labels) != manifest.val.count:
        raise DataError(
            f"{len(result.labels):,} images were evaluated, the dataset has {manifest.val.count:,}",
            remedy="report this: no image may be left out of an evaluation",
        )
    return _commit(result, trained, manifest, place, key)


def _check_classes(trained: TrainedNetwork, dataset: ObjectStore, manifest: Manifest) -> None:
    if trained.classes.item.sha256 != manifest.classes.sha256:
        raise RecipeError(
            f"the network of {trained.weights.store.uri} was trained on other classes than "
            f"those of {dataset.uri}",
            remedy="evaluate it on a dataset with the classes it was trained on",
        )
    if not manifest.val.count:
        raise DataError(
            f"{dataset.uri} has no validation images",
            remedy="prepare a dataset with a val split",
        )


def _commit(
    result: BlockResult,
    trained: TrainedNetwork,
    manifest: Manifest,
    place: ObjectStore,
    key: str,
) -> Evaluation:
    classes = trained.load_classes()
    counts = {
        view: count_rows(result.labels, rows, len(classes)) for view, rows in result.views.items()
    }
    accuracies = {view: accuracy_of(sums) for view, sums in counts.items()}
    # Who was taken over comes late: its tables must not take the place of those committed.
    if (held := read_evaluation(place)) is not None:
        return held
    evaluation = Evaluation(
        key=key,
        dataset_fingerprint=manifest.fingerprint,
        validation_digest=validation_digest(manifest),
        classes_digest=manifest.classes.sha256,
        checkpoint_digest=trained.weights.item.sha256,
        step=trained.step,
        count=len(result.labels),
        center=accuracies["center"],
        ten_crop=accuracies.get("ten_crop"),
        nine_crop=accuracies.get("nine_crop"),
        per_class=write_object(place, PER_CLASS, parquet_bytes(per_class_table(counts, classes))),
        confusion=write_object(place, CONFUSION, parquet_bytes(confusion_table(counts))),
        predictions=write_object(place, PREDICTIONS, parquet_bytes(predictions_table(result))),
    )
    body = commit_receipt(place, RECEIPT, evaluation.to_bytes())
    log.info("evaluated num_images=%d top1=%.4f", evaluation.count, evaluation.center.top1)
    return Evaluation.model_validate_json(body)


@dataclass(frozen=True)
class _Job:
    """What a worker needs to begin: small and picklable."""

    dataset: ObjectStore
    manifest: Manifest
    trained: TrainedNetwork
    views: tuple[View, ...]


class _Worker:
    """Evaluates blocks in a process of its own."""

    def __init__(self, job: _Job) -> None:
        self._job = job

    def evaluate(self, block: Block) -> BlockResult:
        return self._evaluator.evaluate(block)

    # Not in __init__: an error there reaches the driver as a dead actor, without its reason.
    @cached_property
    def _evaluator(self) -> BlockEvaluator:
        torch.set_num_threads(1)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        trained, manifest = self._job.trained, self._job.manifest
        return BlockEvaluator(
            BlockReader(self._job.dataset, manifest),
            trained.load_model(device),
            trained.load_augment(device),
            crop_px=trained.augment.crop_px,
            views=self._job.views,
            stored_px=trained.stored_px,
            device=device,
        )


def _run(job: _Job, settings: EvaluateSettings, progress: ProgressReport) -> BlockResult:
    blocks = plan_blocks(job.manifest.val)
    with _workers(job, settings, most=len(blocks)) as workers:
        # Contiguous runs: a worker opens each shard once.
        owners = [workers[number * len(workers) // len(blocks)] for number in range(len(blocks))]
        asked = [owner.evaluate.remote(block) for owner, block in zip(owners, blocks, strict=True)]
        rows = [block.count for block in blocks]
        with lost_work_named(
            "evaluation workers",
            remedy="see Ray's logs; lower evaluate.parallelism if they ran out of memory",
        ):
            return join_results(collect(asked, owners, rows, progress))


def collect(
    asked: list[Any],
    owners: list[Any],
    rows: list[int],
    progress: ProgressReport,
    *,
    silence_s: float = SILENCE_S,
) -> list[BlockResult]:
    """Return the results in order, fetched as they come: a node may take its own with it.

    A worker that is through is ended at once. They book all there is, so that one whose node was
    lost starts again only in the place of another.

    Args:
        asked: references, one a block.
        owners: the worker of each.
        rows: images of each.
        progress: called with (images done, images in all).
        silence_s: to wait for any block.

    Raises:
        ServiceError: none came in that time.
    """
    number_of = {reference: number for number, reference in enumerate(asked)}
    left = Counter(owners)
    found: dict[int, BlockResult] = {}
    pending, heard_at = asked, time.monotonic()
    while pending:
        ready, pending = ray.wait(pending, timeout=1.0)
        for reference in ready:
            number, heard_at = number_of[reference], time.monotonic()
            found[number] = ray.get(reference)  # raises at once what a worker raised
            left[owners[number]] -= 1
            if not left[owners[number]]:
                ray.kill(owners[number])
        if time.monotonic() - heard_at > silence_s:
            raise ServiceError(
                f"no evaluation worker has finished a block for {silence_s:.0f} s",
                remedy="see `ray status`: what they need may be gone from the cluster",
            )
        progress(sum(rows[number] for number in found), sum(rows))
    return [found[number] for number in range(len(asked))]


@contextmanager
def _workers(job: _Job, settings: EvaluateSettings, *, most: int) -> Iterator[list[Any]]:
    there = cluster_resources()
    slots = there.gpus or there.cpus
    count = min(most, settings.parallelism or max(1, int(slots)))
    # More workers than slots share them; a whole slot each would leave some waiting for ever.
    actor = ray.remote(_Worker).options(
        num_cpus=_share(there.cpus, count),
        num_gpus=_share(there.gpus, count),
        max_restarts=3,
        max_task_retries=3,
    )
    workers = [actor.remote(job) for _ in range(count)]
    try:
        yield workers
    finally:
        for worker in workers:
            ray.kill(worker)


def _share(slots: float, workers: int) -> float:
    if not slots:
        return 0.0
    # No worker can straddle two slots: each slot holds a whole number of them.
    return 100 // math.ceil(workers / slots) / 100
