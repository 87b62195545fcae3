"""What workspaces hold of a trained network: its dataset, its training, its evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass

from alexnet.evaluate.evaluation import RECEIPT, Evaluation, read_evaluation, validation_digest
from alexnet.train.job import RUN
from alexnet.train.training_receipt import read_finished
from alexnet.trained import TrainedNetwork
from infra.errors import DataError
from infra.store import ObjectStore
from pipelines.datasets import datasets_in
from pipelines.lookup.models import is_checkpoint, places_of, run_of
from pipelines.lookup.runs import runs_in
from preprocessing.dataset.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Related:
    """What was found; a registered model knows none of it by name, but its bytes tell."""

    dataset: tuple[ObjectStore, Manifest] | None
    """The one whose statistics and classes it has."""
    run: ObjectStore | None
    """The training that ended with its weights, or that its checkpoint is of."""
    evaluation: tuple[ObjectStore, Evaluation] | None
    """Of its weights, on that dataset's images where there is one."""


def find_related(uri: str, trained: TrainedNetwork, workspace: str) -> Related:
    """Look for what belongs to a network, in a checkpoint's own workspace and in another.

    Args:
        uri: of the registered version or of the checkpoint.
        trained: the network there.
        workspace: where to look too.

    Raises:
        StoreError: a place is away.
    """
    places = places_of(uri, workspace)
    datasets = (found for place in places for found in datasets_in(place))
    dataset = next((found for found in datasets if _is_of(trained, found[1])), None)
    return Related(
        dataset=dataset,
        run=_run(uri, trained, places),
        evaluation=_evaluation(trained, dataset, places),
    )


def _is_of(trained: TrainedNetwork, manifest: Manifest) -> bool:
    theirs = (manifest.statistics.sha256, manifest.classes.sha256)
    return theirs == (trained.statistics.item.sha256, trained.classes.item.sha256)


def _run(uri: str, trained: TrainedNetwork, places: list[ObjectStore]) -> ObjectStore | None:
    if is_checkpoint(uri):
        run = run_of(uri)
        return run if run.stat(RUN) is not None else None
    return next((r for place in places for r in runs_in(place) if _ended_with(r, trained)), None)


def _evaluation(
    trained: TrainedNetwork,
    dataset: tuple[ObjectStore, Manifest] | None,
    places: list[ObjectStore],
) -> tuple[ObjectStore, Evaluation] | None:
    """Find an evaluation of its weights: on its own dataset, else on another, as champions have."""
    weights = trained.weights.item.sha256
    found = [
        (store, evaluation)
        for place in places
        for store, evaluation in _evaluations_in(place)
        if evaluation.checkpoint_digest == weights
    ]
    own = None if dataset is None else validation_digest(dataset[1])
    on_its_own = (one for one in found if one[1].validation_digest == own)
    return next(on_its_own, found[0] if found else None)


def _ended_with(run: ObjectStore, trained: TrainedNetwork) -> bool:
    try:
        receipt = read_finished(run)
    except DataError:
        return False  # damaged, or another version's: not the one that is looked for
    return receipt is not None and receipt.model_sha256 == trained.weights.item.sha256


def _evaluations_in(workspace: ObjectStore) -> Iterator[tuple[ObjectStore, Evaluation]]:
    for info in workspace.list("evaluations/"):
        folder, _, name = info.key.rpartition("/")
        if name != RECEIPT:
            continue
        store = workspace.child(folder)
        try:
            evaluation = read_evaluation(store)
        except DataError:
            continue
        if evaluation is not None:
            yield store, evaluation
