"""`alexnet predict`: a model answers for images; the answers are printed or written."""

from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from alexnet.evaluate.rows import View, view_called
from alexnet.inference.classify import ANSWERS, ClassifySpec
from alexnet.inference.input_parts import InputPart
from alexnet.inference.inputs import find_parts
from alexnet.trained import TrainedNetwork
from infra.progress import StatusLine
from infra.store import ObjectStore, open_store
from pipelines.context import refuse_relative_in_a_job
from pipelines.inference.answers import answered, refuse_if_none
from pipelines.inference.output_files import TABLES, check_output_file
from pipelines.inference.prediction_file import answers_table, write_predictions
from pipelines.lookup.models import open_model
from preprocessing.dataset.labels import Classes


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model answered for each image, in the order in which they were named."""

    model: str
    """URI of the registered version or of the checkpoint."""
    step: int
    view: View
    classes: Classes
    answers: pa.Table
    """Of `ClassifySpec.schema`."""
    output: str | None
    """Where they were written, if they were."""

    @property
    def table(self) -> pa.Table:
        """The answers with names, as they are written to Parquet."""
        return answers_table(self.answers, self.classes)

    @property
    def rejected(self) -> list[tuple[str, str]]:
        """Path and reason of what is no image."""
        bad = self.answers.filter(pc.is_valid(self.answers["reason"]))
        return [(path, reason) for path, _, _, reason in _rows(bad)]

    def fields(self) -> dict[str, Any]:
        """Describe them as `predict --json` does."""
        rejected = [{"path": path, "reason": reason} for path, reason in self.rejected]
        good = [
            {"path": path, "top": self._top(labels, probabilities)}
            for path, labels, probabilities, reason in _rows(self.answers)
            if reason is None
        ]
        return {
            "model": self.model,
            "global_step": self.step,
            "view": self.view,
            "output": self.output,
            "count": len(good),
            "num_rejected": len(rejected),
            "predictions": good,
            "rejected": rejected,
        }

    def _top(self, labels: list[int], probabilities: list[float]) -> list[dict[str, Any]]:
        return [
            {**self.classes.classes[label].model_dump(), "probability": probability}
            for label, probability in zip(labels, probabilities, strict=True)
        ]


def predict_images(
    model: str,
    images: Sequence[str],
    *,
    view: str,
    output: str | None,
    workspace: str,
    tracking_uri: str | None,
    stream: IO[str],
    all_probabilities: bool = False,
) -> Predictions:
    """Let a model answer for images; what is no image is listed and does not stop the others.

    Args:
        model: as `pipelines.lookup.models.open_model` takes it.
        images: files, folders, Parquet files, datasets (their validation split); paths or URIs.
        view: a name of `VIEW_NAMES`: the centre alone, or an average over crops.
        output: a .parquet or .csv file to write, a path or a URI.
        workspace: where the model is looked for.
        tracking_uri: the MLflow server of a registered model, if not the workspace's own.
        stream: gets the progress.
        all_probabilities: also keep the probabilities of all classes, in the order of labels.

    Raises:
        RecipeError: there is no such view, the output has another suffix, or several runs have the
            model's name.
        InputRejected: a path that is not there, or none is an image.
        DataError: there is no such model, or it is damaged.
        ServiceError: a place, MLflow or Ray is away.
    """
    refuse_relative_in_a_job("the workspace", workspace)
    of_view = view_called(view)
    if output is not None:
        check_output_file(output, TABLES[:1] if all_probabilities else TABLES)
    parts = find_parts(images)
    # Ray and MLflow print now and then; standard output holds the result and nothing else.
    with (
        redirect_stdout(stream),
        open_model(model, workspace=workspace, tracking_uri=tracking_uri) as (uri, trained),
    ):
        classes = trained.load_classes()
        spec = ClassifySpec(of_view, all_probabilities)
        answers = _answer(uri, trained, parts, spec, open_store(workspace), stream)
    predictions = Predictions(uri, trained.step, of_view, classes, answers, output)
    rejected = predictions.rejected
    refuse_if_none(len(answers) - len(rejected), rejected)
    if output is not None:
        write_predictions(predictions.table, output)
    return predictions


def _rows(answers: pa.Table) -> Iterator[tuple[Any, ...]]:
    for batch in answers.select(ANSWERS.names).to_batches():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _answer(
    uri: str,
    trained: TrainedNetwork,
    parts: Sequence[InputPart],
    spec: ClassifySpec,
    workspace: ObjectStore,
    stream: IO[str],
) -> pa.Table:
    progress = StatusLine("predict", stream)
    with answered(uri, trained, parts, spec, workspace, progress, stream) as tables:
        return pa.concat_tables([spec.schema.empty_table(), *tables])
