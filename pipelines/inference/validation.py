"""`alexnet validate`: a trained network is counted on the validation images of any dataset."""

from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from typing import IO, Any, Final

from alexnet.evaluate.evaluation import Evaluation, open_evaluation, read_evaluation
from alexnet.evaluate.rows import View, view_called
from alexnet.evaluate.settings import EvaluateSettings
from alexnet.trained import TrainedNetwork
from infra.errors import DataError, RecipeError, StoreError
from infra.lease import hold_lease
from infra.nodes import check_nodes_see
from infra.progress import StatusLine, tell
from infra.ray_session import ray_session
from infra.store import ObjectStore, open_store
from infra.store.check import open_workspace
from pipelines.context import FIRST_CONTACT_S, refuse_relative_in_a_job
from pipelines.inference.answers import seen_by_all_nodes
from pipelines.lookup.evaluations import accuracy_fields
from pipelines.lookup.models import open_model
from pipelines.lookup.related import find_related
from pipelines.steps.evaluate import evaluation_fields, evaluation_folder, evaluation_key
from pipelines.steps.prepare import Dataset
from pipelines.steps.seen import ids_trained_on
from preprocessing.dataset.labels import Classes, read_classes
from preprocessing.dataset.manifest import MANIFEST, open_dataset

_TOLD: Final = 3
"""Classes that are named of those that differ."""


def validate_model(
    model: str,
    dataset: str,
    *,
    view: str,
    workspace: str,
    tracking_uri: str | None,
    stream: IO[str],
) -> dict[str, Any]:
    """Count what a network gets right of a dataset's validation images, unless that is known.

    Args:
        model: as `pipelines.lookup.models.open_model` takes it.
        dataset: folder or URI of a committed dataset, of the same classes. Images that are stored
            at another size are brought to the one that the network was trained on.
        view: a name of `VIEW_NAMES`; the centre is counted beside an average over crops.
        workspace: where the model is looked for; the evaluation is kept in it, and found again.
        tracking_uri: the MLflow server of a registered model, if not the workspace's own.
        stream: gets the progress.

    Returns:
        What `validate --json` prints.

    Raises:
        RecipeError: there is no such view, or the dataset has other classes.
        DataError: there is no such model or dataset, or it is damaged.
        ServiceError: a place, MLflow or Ray is away.
    """
    refuse_relative_in_a_job("the workspace", workspace)
    refuse_relative_in_a_job("the dataset", dataset)
    of_view, store, place = view_called(view), open_store(dataset), open_store(workspace)
    on = Dataset(store, open_dataset(store.with_deadline(FIRST_CONTACT_S)))
    # Ray and MLflow print now and then; standard output holds the result and nothing else.
    with (
        redirect_stdout(stream),
        open_model(model, workspace=workspace, tracking_uri=tracking_uri) as (uri, trained),
    ):
        refuse_other_classes(uri, trained, on)
        open_workspace(place.with_deadline(FIRST_CONTACT_S))
        work = _Work(uri, trained, on, place, stream)
        kept = work.find(of_view) or work.make(of_view)
        num_trained_on = _num_trained_on(uri, trained, on, workspace)
    evaluation = open_evaluation(kept)
    counted: dict[str, Any] = {
        name: accuracy_fields(accuracy, evaluation.count)
        for name, accuracy in evaluation.views.items()
    }
    return {
        "model": uri,
        "global_step": trained.step,
        "dataset": store.uri,
        **evaluation_fields(kept, evaluation),
        **counted,
        "num_trained_on": num_trained_on,
    }


@dataclass(frozen=True, slots=True)
class _Work:
    """One network on one dataset's images, kept in a workspace."""

    uri: str
    trained: TrainedNetwork
    on: Dataset
    workspace: ObjectStore
    stream: IO[str]

    def find(self, view: View) -> ObjectStore | None:
        """Return an evaluation's folder that has the view, whatever else was counted there."""
        whether = (False, True)
        settings = [EvaluateSettings(ten_crop=t, nine_crop=n) for t in whether for n in whether]
        folders = [self._folder(s)[0] for s in settings if view in s.views]
        return next((folder for folder in folders if _is_there(folder)), None)

    def make(self, view: View) -> ObjectStore:
        """Evaluate and commit, unless another process just did; starts or joins Ray."""
        settings = EvaluateSettings(ten_crop=view == "ten_crop", nine_crop=view == "nine_crop")
        folder, key = self._folder(settings)
        with hold_lease(
            folder, wait_report=lambda claim: tell(self.stream, f"{claim.process} does it; waiting")
        ):
            if not _is_there(folder):
                self._evaluate(settings, folder, key)
        return folder

    def _folder(self, settings: EvaluateSettings) -> tuple[ObjectStore, str]:
        key = evaluation_key(
            model_sha256=self.trained.weights.item.sha256,
            dataset=self.on,
            augment=self.trained.augment,
            settings=settings,
            stored_px=self.trained.stored_px,
        )
        return evaluation_folder(self.workspace, key), key

    def _evaluate(self, settings: EvaluateSettings, folder: ObjectStore, key: str) -> Evaluation:
        from alexnet.evaluate.execute import evaluate

        trained = self.trained
        tell(self.stream, "starting or joining Ray")
        with ray_session() as cluster, closing(StatusLine("validate", self.stream)) as progress:
            if cluster.shared:
                trained = seen_by_all_nodes(self.uri, trained, self.workspace)
                check_nodes_see(trained.weights.store, trained.weights.item.path)
                check_nodes_see(self.on.store, MANIFEST)
            return evaluate(
                trained=trained,
                dataset=self.on.store,
                manifest=self.on.manifest,
                settings=settings,
                place=folder,
                key=key,
                progress=progress,
            )


def _is_there(folder: ObjectStore) -> bool:
    return read_evaluation(folder) is not None


def refuse_other_classes(uri: str, trained: TrainedNetwork, on: Dataset) -> None:
    """Refuse a dataset whose classes are not the network's, by the names of those that differ.

    Raises:
        RecipeError: they differ.
        DataError: a list of classes is damaged.
    """
    if trained.classes.item.sha256 == on.manifest.classes.sha256:
        return
    difference = _difference(trained.load_classes(), read_classes(on.store, on.manifest.classes))
    raise RecipeError(
        f"{uri} tells other classes apart than {on.store.uri} has: {difference}",
        remedy="name a dataset of the classes that it was trained on: the same WordNet ids, or"
        " folders of the same names",
    )


def _difference(networks: Classes, datasets: Classes) -> str:
    """Say where two lists of classes part. Pure."""
    lacks = [key for key in networks.label_of if key not in datasets.label_of]
    new = [key for key in datasets.label_of if key not in networks.label_of]
    if not lacks and not new:
        pairs = zip(networks.classes, datasets.classes, strict=True)
        theirs, ours = next(pair for pair in pairs if pair[0] != pair[1])
        return f"{ours.wnid} is called {theirs.name!r} by the one and {ours.name!r} by the other"
    told = [f"the network has no {_listed(new)}"] if new else []
    return ", ".join([*told, *([f"the dataset has no {_listed(lacks)}"] if lacks else [])])


def _listed(keys: Sequence[str]) -> str:
    more = len(keys) - _TOLD
    return ", ".join(map(repr, keys[:_TOLD])) + (f" and {more:,} more" if more > 0 else "")


def _num_trained_on(uri: str, trained: TrainedNetwork, on: Dataset, workspace: str) -> int | None:
    """Count the images that the network was trained on; None where its dataset is not here."""
    try:
        theirs = find_related(uri, trained, workspace).dataset
        return None if theirs is None else len(ids_trained_on(on, *theirs))
    except (DataError, StoreError):
        return None  # it lies elsewhere, or in part
