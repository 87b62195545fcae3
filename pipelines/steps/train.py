"""Stage 7: a dataset becomes a trained network's last checkpoint, shown as one MLflow run."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from alexnet.train.attempts import read_attempts
from alexnet.train.checkpoint import (
    CheckpointReceipt,
    find_sound_checkpoint,
    list_checkpoints,
)
from alexnet.train.job import RUN, TrainJob, run_key
from alexnet.train.placement import check_gpus, place_workers
from alexnet.train.training_receipt import TrainingReceipt, commit_training, read_training
from infra.errors import DataError, ServiceError
from infra.lease import hold_lease
from infra.nodes import check_nodes_share
from infra.ray_runtime import LOCAL, cluster_address
from infra.store import ObjectStore, open_store
from infra.tracking.base import RunStatus
from infra.tracking.run_note import read_notes, run_ids_on
from pipelines.context import Context, refuse_relative_in_a_job
from pipelines.recipe import check_network
from pipelines.steps.prepare import Dataset, PrepareStep
from pipelines.steps.training_run import REACHABLE_S, TrainingRun
from pipelines.workflow import Step


@dataclass(frozen=True, slots=True)
class Training:
    """A finished training and where it lies."""

    store: ObjectStore
    receipt: TrainingReceipt

    @property
    def checkpoint(self) -> ObjectStore:
        """The folder of the last checkpoint."""
        return self.store.child(self.receipt.checkpoint)


class TrainStep(Step[Training]):
    """Dataset → last checkpoint."""

    name: ClassVar[str] = "train"

    def __init__(self, context: Context, prepare: PrepareStep) -> None:
        super().__init__(context)
        self._prepare = prepare

    def folder(self) -> ObjectStore:
        """Return the run's folder."""
        name = f"{self.context.recipe.name}-{self._run_key[:16]}"
        return self.context.workspace.child(f"runs/{name}")

    def check_early(self) -> None:
        """In a workspace without runs a new MLflow run is needed: ask for it before all else."""
        if next(iter(self.context.workspace.list("runs/")), None) is None:
            self.context.tracker.check_reachable(REACHABLE_S)

    def check(self) -> None:
        """Refuse a network that cannot be built, and a tracker that is away."""
        check_network(self.context.recipe)
        if self.context.recipe.train.sample_log is not None:
            refuse_relative_in_a_job("train.sample_log", self.context.recipe.train.sample_log)
            open_store(self.context.recipe.train.sample_log)
        if not (self._prepare.is_done and self.run.is_noted()):
            self.context.tracker.check_reachable(REACHABLE_S)

    def check_cluster(self) -> None:
        """Refuse too small a cluster, GPUs of no use, a sample log that its nodes do not share."""
        scaling = self.context.recipe.scaling
        placement = place_workers(self.context.cluster, scaling.workers)
        check_gpus(placement, scaling.gpu, began_on_gpus=False)  # if it did, its run knows
        if placement.use_gpu:
            from alexnet.train.gpu_nodes import check_nodes_use_gpus

            check_nodes_use_gpus()
        sample_log = self.context.recipe.train.sample_log
        if sample_log is not None and cluster_address() != LOCAL:
            check_nodes_share(open_store(sample_log))

    def find(self) -> Training | None:
        """Find a finished training."""
        receipt = read_training(self.folder())
        return None if receipt is None else Training(self.folder(), receipt)

    def make(self) -> Training:
        """Train from where the run stands to its end."""
        folder = self.folder()
        folder.create(RUN, self.context.recipe.model_dump_json(indent=1).encode())
        with self.run.at_work(lambda: not self.was_taken_over) as work:
            work.is_whole, last = self._train(work.run_id)
        return Training(folder, commit_training(folder, self._run_key, last))

    def fields(self, product: Training) -> dict[str, Any]:
        """Return what `--json` shows."""
        return training_fields(product.store, product.receipt, server=self.context.tracker.server)

    def catch_up(self) -> None:
        """Send what MLflow lacks of the curves: it was away, or it is another server."""
        if not self.run.lacks_points():
            return
        try:
            # Of two processes only one makes the run.
            with hold_lease(self.folder(), wait_report=self.say_waiting):
                if self.run.lacks_points():
                    self.context.say("train: sending MLflow what it lacks of the curves")
                    self.run.ensure_id()
        except ServiceError as error:
            self.context.say(f"train: MLflow still lacks points of the curves: {error.problem}")

    @cached_property
    def run(self) -> TrainingRun:
        """The training as MLflow shows it; needs the dataset."""
        return TrainingRun(
            tracker=self.context.tracker,
            folder=self.folder(),
            run_key=self._run_key,
            recipe=self.context.recipe,
            dataset=self._dataset,
            say=lambda text: self.context.say(f"train: {text}"),
        )

    @property
    def _dataset(self) -> Dataset:
        return self._prepare.product

    @cached_property
    def _run_key(self) -> str:
        recipe = self.context.recipe
        fingerprint = self._dataset.manifest.fingerprint
        return run_key(fingerprint, recipe.model, recipe.train, tag=recipe.run.tag)

    def _train(self, run_id: str) -> tuple[bool, CheckpointReceipt]:
        """Train to the end; tell whether MLflow has every point of the curves, and what was made.

        Raises:
            DataError: the last checkpoint is damaged.
            ProjectError: whatever else ended the training.
        """
        job = self._job()
        order = job.order(self._dataset.manifest)
        total_steps = job.total_steps(order)
        last = self._end_checkpoint(total_steps)
        if last is not None:
            return self.run.deliver(run_id), last
        from pipelines.steps.train_on_cluster import ClusterTraining

        is_whole = ClusterTraining(
            self.context,
            job,
            run_id,
            total_steps=total_steps,
            num_images=order.rows_before(total_steps),
        ).run()
        last = self._end_checkpoint(total_steps)
        if last is None:
            raise DataError(
                f"{self.folder().uri}: the checkpoint of the last step, {total_steps:,}, is"
                " damaged",
                remedy="run again: training goes on from the one before it",
            )
        return is_whole, last

    def _end_checkpoint(self, total_steps: int) -> CheckpointReceipt | None:
        """Return the checkpoint of the last step, if there is one and it is sound."""
        run = self.folder()
        attempts = read_attempts(run)
        newest = list_checkpoints(run, attempts)[-1:]
        if not newest or newest[0].step != total_steps:
            return None  # without reading another one's bytes
        found = find_sound_checkpoint(run, attempts)
        return found if found is not None and found.step == total_steps else None

    def _job(self) -> TrainJob:
        recipe, dataset = self.context.recipe, self._dataset
        train = recipe.train
        if train.sample_log is not None:
            # Workers have another current directory: a relative path is taken from ours, here.
            log_uri = open_store(train.sample_log).uri
            train = train.model_copy(update={"sample_log": log_uri})
        return TrainJob(
            run_key=self._run_key,
            run_uri=self.folder().uri,
            dataset_uri=dataset.store.uri,
            dataset_fingerprint=dataset.manifest.fingerprint,
            num_classes=dataset.manifest.num_classes,
            network=recipe.model,
            train=train,
            checkpoint=recipe.checkpoint,
            microbatch=recipe.scaling.microbatch,
            compile=recipe.scaling.compile,
        )


def training_fields(
    run: ObjectStore, receipt: TrainingReceipt, *, server: str | None = None
) -> dict[str, Any]:
    """Describe a finished training as `train --json` does; its run on `server`, if given."""
    run_ids = run_ids_on(run, server) if server else [note.run_id for note in read_notes(run)]
    return {
        "run_key": receipt.run_key,
        "mlflow_run_id": run_ids[-1] if run_ids else None,
        "status": RunStatus.FINISHED.value,
        "global_step": receipt.step,
        "checkpoint": run.child(receipt.checkpoint).uri,
        "attempts": len(read_attempts(run)),
    }
