"""What workspaces hold of a trained network: its dataset, its training, its evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass

from alexnet.evaluate.evaluation import RECEIPT, Evaluation, read_evaluation
from alexnet.evaluate.trained import TrainedNetwork
from alexnet.train.receipt import FINISHED, TrainingReceipt
from infra.commit import parse_receipt, read_receipt
from infra.errors import DataError
from infra.store import ObjectStore
from pipelines.inspection import MODELS
from pipelines.models import datasets_in, places_of, run_of
from pipelines.runs import RUN, runs_in
from preprocessing.dataset.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Related:
    """What was found; a registered model knows none of it by name, but its bytes tell."""

    dataset: tuple[ObjectStore, Manifest] | None
    """The one whose statistics and classes it has."""
    run: ObjectStore | None
    """The training that ended with its weights, or that its checkpoint is of."""
    evaluation: tuple[ObjectStore, Evaluation] | None
    """Of its weights."""


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
    evaluations = (found for place in places for found in _evaluations_in(place))
    return Related(
        dataset=next((found for found in datasets if _is_of(trained, found[1])), None),
        run=_run(uri, trained, places),
        evaluation=next(
            (e for e in evaluations if e[1].checkpoint_digest == trained.weights.item.sha256), None
        ),
    )


def finished(run: ObjectStore) -> TrainingReceipt | None:
    """Read the receipt of a training, or None while it is at work.

    Raises:
        ObjectCorrupt: it is cut.
    """
    body = read_receipt(run, FINISHED)
    return None if body is None else parse_receipt(TrainingReceipt, body, f"{run.uri}/{FINISHED}")


def _is_of(trained: TrainedNetwork, manifest: Manifest) -> bool:
    theirs = (manifest.statistics.sha256, manifest.classes.sha256)
    return theirs == (trained.statistics.item.sha256, trained.classes.item.sha256)


def _run(uri: str, trained: TrainedNetwork, places: list[ObjectStore]) -> ObjectStore | None:
    if not uri.startswith(MODELS):
        run = run_of(uri)
        return run if run.stat(RUN) is not None else None
    return next((r for place in places for r in runs_in(place) if _ended_with(r, trained)), None)


def _ended_with(run: ObjectStore, trained: TrainedNetwork) -> bool:
    try:
        receipt = finished(run)
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
