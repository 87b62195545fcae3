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
from infra.errors import DataError, ProjectError, ServiceError
from infra.lease import hold_lease
from infra.nodes import check_nodes_share
from infra.ray_runtime import LOCAL, cluster_address
from infra.store import ObjectStore, open_store
from infra.tracking.base import RunStatus
from infra.tracking.run_note import end_run, open_run, read_notes, run_ids_on
from pipelines.context import Context, refuse_relative_in_a_job
from pipelines.parameters import flat_parameters
from pipelines.recipe import check_network
from pipelines.steps.prepare import Dataset, PrepareStep
from pipelines.steps.tracked import (
    REACHABLE_S,
    REST_FOLLOWS,
    ShownRun,
    deliver_journal,
    finished_run,
    lacks_points,
)
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
        if not self._is_noted():
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
        run_id = self._open_run()
        try:
            is_described = self._describe_if_there(run_id)
            is_whole, last = self._train(run_id)
            if is_whole and not is_described:
                # Once it is FINISHED nobody looks whether it has its parameters.
                is_whole = self._describe_if_there(run_id)
        except KeyboardInterrupt:
            self._end(run_id, RunStatus.KILLED, "interrupted")
            raise
        except BaseException as error:
            self._end(run_id, RunStatus.FAILED, f"{type(error).__name__}: {error}")
            raise
        if is_whole:  # else what sends the rest ends the run
            self._end(run_id, RunStatus.FINISHED, "")
        return Training(self.folder(), commit_training(self.folder(), self._run_key, last))

    def fields(self, product: Training) -> dict[str, Any]:
        """Return what `--json` shows."""
        return training_fields(product.store, product.receipt, server=self.context.tracker.server)

    def catch_up(self) -> None:
        """Send what MLflow lacks of the curves: it was away, or it is another server."""
        if not lacks_points(self.context.tracker.server, self.folder()):
            return
        try:
            # Of two processes only one makes the run.
            with hold_lease(self.folder(), wait_report=self.say_waiting):
                if lacks_points(self.context.tracker.server, self.folder()):
                    self.context.say("train: sending MLflow what it lacks of the curves")
                    self.run_id()
        except ServiceError as error:
            self.context.say(f"train: MLflow still lacks points of the curves: {error.problem}")

    def shown_run(self) -> ShownRun:
        """Return the finished training's MLflow run, made on this server if need be.

        Raises:
            TrackingError: the server is away, or refuses.
        """
        return finished_run(
            self.context.tracker,
            self.folder(),
            run_key=self._run_key,
            name=self._run_name,
            describe=self._describe,
        )

    def run_id(self) -> str:
        """Return the id of that run; say so if it is not whole, which is no reason to stop.

        Raises:
            TrackingError: as above.
        """
        shown = self.shown_run()
        self._tell_of_rest(shown.is_whole)
        return shown.run_id

    @property
    def _run_name(self) -> str:
        return f"{self.context.recipe.name}-{self._run_key[:8]}"

    @property
    def _dataset(self) -> Dataset:
        return self._prepare.product

    @cached_property
    def _run_key(self) -> str:
        recipe = self.context.recipe
        fingerprint = self._dataset.manifest.fingerprint
        return run_key(fingerprint, recipe.model, recipe.train, tag=recipe.run.tag)

    def _is_noted(self) -> bool:
        """Tell whether this training has a run on this server already."""
        return self._prepare.is_done and bool(
            run_ids_on(self.folder(), self.context.tracker.server)
        )

    def _open_run(self) -> str:
        run = self.folder()
        run.create(RUN, self.context.recipe.model_dump_json(indent=1).encode())
        return open_run(
            self.context.tracker,
            run,
            run_key=self._run_key,
            run_name=self._run_name,
            timeout_s=REACHABLE_S,
        )

    def _describe_if_there(self, run_id: str) -> bool:
        """Send parameters, tags and input; False if not all arrived."""
        try:
            self.context.tracker.check_reachable(REACHABLE_S)
            self._describe(run_id)
        except ServiceError as error:
            self.context.say(f"train: MLflow is away, going on without it: {error.problem}")
            return False
        return True

    def _describe(self, run_id: str) -> None:
        recipe, dataset = self.context.recipe, self._dataset
        self.context.tracker.log_params(run_id, flat_parameters(recipe.model_dump(mode="json")))
        self.context.tracker.add_tags(run_id, {"alexnet.recipe_digest": recipe.digest})
        self.context.tracker.log_dataset(
            run_id,
            name=dataset.manifest.name,
            digest=dataset.manifest.fingerprint,
            source_uri=dataset.store.uri,
        )

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
            is_whole = deliver_journal(self.context.tracker, self.folder(), run_id)
            self._tell_of_rest(is_whole)
            return is_whole, last
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

    def _tell_of_rest(self, is_whole: bool) -> None:
        if not is_whole:
            self.context.say(f"train: {REST_FOLLOWS}")

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

    def _end(self, run_id: str, status: RunStatus, reason: str) -> None:
        if self.was_taken_over:
            return  # How the run stands is for the process that has it now.
        try:
            self.context.tracker.check_reachable(REACHABLE_S)
            end_run(self.context.tracker, self.folder(), run_id, status, reason)
        except ProjectError as error:
            self.context.say(f"train: the run's status {status} was not noted: {error.problem}")


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
