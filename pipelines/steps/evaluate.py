"""Stage 8: the last checkpoint is counted on the validation split."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

from alexnet.evaluate.evaluation import Evaluation, open_evaluation, read_evaluation
from alexnet.evaluate.rows import VIEW_NAMES, view_suffix
from alexnet.evaluate.settings import EvaluateSettings
from alexnet.settings import AugmentSettings
from infra.canonical import digest_of
from infra.store import ObjectStore
from pipelines.context import Context
from pipelines.steps.prepare import Dataset, PrepareStep
from pipelines.steps.train import Training, TrainStep
from pipelines.steps.training_run import REST_FOLLOWS
from pipelines.workflow import Step

VERSION: Final = 2
"""Raised by hand when the same network and images would be counted differently."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A committed evaluation and where it lies."""

    store: ObjectStore
    evaluation: Evaluation


class EvaluateStep(Step[Evaluated]):
    """Checkpoint → counts."""

    name: ClassVar[str] = "evaluate"

    def __init__(self, context: Context, prepare: PrepareStep, train: TrainStep) -> None:
        super().__init__(context)
        self._prepare = prepare
        self._train = train

    def folder(self) -> ObjectStore:
        """Return the evaluation's folder."""
        return evaluation_folder(self.context.workspace, self._key)

    def find(self) -> Evaluated | None:
        """Find the committed evaluation whose results were added to this training's run."""
        if read_evaluation(self.folder()) is None or self._training.store.stat(self._mark) is None:
            return None
        return Evaluated(self.folder(), open_evaluation(self.folder()))

    def make(self) -> Evaluated:
        """Evaluate and commit if nobody has, and add the results to the run."""
        if read_evaluation(self.folder()) is None:
            self._evaluate()
        evaluation = open_evaluation(self.folder())
        self._publish(evaluation)
        self._training.store.create(self._mark, self._key.encode())
        return Evaluated(self.folder(), evaluation)

    def fields(self, product: Evaluated) -> dict[str, Any]:
        """Return what `--json` shows."""
        return evaluation_fields(product.store, product.evaluation)

    @property
    def _dataset(self) -> Dataset:
        return self._prepare.product

    @property
    def _training(self) -> Training:
        return self._train.product

    def is_of_this_network(self, name: str) -> bool:
        """Tell whether an evaluation is of this network on these images.

        Whichever views were scored beside the centre. Not where that is of another size: answers
        differ then, though the weights may be the same.

        Args:
            name: the evaluation's key, or its folder's name.
        """
        whether = (True, False)
        settings = [EvaluateSettings(ten_crop=t, nine_crop=n) for t in whether for n in whether]
        return name[:16] in {self._key_with(views)[:16] for views in settings}

    @cached_property
    def _key(self) -> str:
        return self._key_with(self.context.recipe.evaluate)

    def _key_with(self, settings: EvaluateSettings) -> str:
        return evaluation_key(
            model_sha256=self._training.receipt.model_sha256,
            dataset=self._dataset,
            augment=self.context.recipe.train.augment,
            settings=settings,
        )

    @property
    def _mark(self) -> str:
        """Object in the run's folder that says its journal has these results."""
        return f"results/{self._key[:16]}"

    def _evaluate(self) -> None:
        from alexnet.evaluate.execute import evaluate
        from alexnet.trained import trained_network

        self.context.start_cluster()
        dataset = self._dataset
        with self.context.progress(self.name) as progress:
            evaluate(
                trained=trained_network(self._training.checkpoint, dataset.store, dataset.manifest),
                dataset=dataset.store,
                manifest=dataset.manifest,
                settings=self.context.recipe.evaluate,
                place=self.folder(),
                key=self._key,
                progress=progress,
            )

    def _publish(self, evaluation: Evaluation) -> None:
        values = {"val/loss": evaluation.center.loss}
        for view, accuracy in evaluation.views.items():
            values[f"val/top1{view_suffix(view)}"] = accuracy.top1
            values[f"val/top5{view_suffix(view)}"] = accuracy.top5
        if not self._train.run.add_results(step=evaluation.step, values=values):
            self.context.say(f"evaluate: {REST_FOLLOWS}")


def evaluation_key(
    *,
    model_sha256: str,
    dataset: Dataset,
    augment: AugmentSettings,
    settings: EvaluateSettings,
    stored_px: int | None = None,
) -> str:
    """Hex SHA-256 of what decides an evaluation: weights, images, views.

    Args:
        stored_px: side of the stored images that the network was trained on, if not the dataset's.
    """
    is_scaled = stored_px not in (None, dataset.manifest.stored_px)
    views = augment.model_dump(mode="json", include={"crop_px", "view_px", "normalise"})
    return digest_of(
        {
            "step": "evaluate",
            "version": VERSION,
            "model": model_sha256,
            "dataset": dataset.manifest.fingerprint,
            "views": views,
            "ten_crop": settings.ten_crop,
            # Only where it is so: keys of before there was such a thing stay.
            **({"nine_crop": True} if settings.nine_crop else {}),
            **({"stored_px": stored_px} if is_scaled else {}),
        }
    )


def evaluation_folder(workspace: ObjectStore, key: str) -> ObjectStore:
    """Return where an evaluation lies."""
    return workspace.child(f"evaluations/{key[:16]}")


def evaluation_fields(store: ObjectStore, evaluation: Evaluation) -> dict[str, Any]:
    """Describe an evaluation as `evaluate --json` does."""
    return {
        "uri": store.uri,
        "count": evaluation.count,
        "loss": evaluation.center.loss,
        **dict.fromkeys(VIEW_NAMES),
        **{view: accuracy.model_dump(mode="json") for view, accuracy in evaluation.views.items()},
    }
