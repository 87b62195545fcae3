"""What lies at a place: a dataset, a run, a checkpoint, an evaluation, a verdict, a model."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from alexnet.release.settings import MODEL_NAME
from alexnet.train.job import RUN
from infra.errors import DataError
from infra.looking import may_exist
from infra.store import ObjectStore, open_store
from infra.tracking.place import place_for, sqlite_path, without_credentials
from pipelines.defaults import is_from_environment

if TYPE_CHECKING:
    from alexnet.release.registry import ModelRegistry, RegisteredVersion

MODELS: Final = "models:/"
_MODEL_URI: Final = re.compile(
    rf"{MODELS}(?P<name>{MODEL_NAME})(/(?P<version>[^/@]+)|@(?P<alias>[^/@]+))"
)


def inspect_uri(uri: str, *, workspace: str, tracking_uri: str | None) -> dict[str, Any]:
    """Describe what a URI names, as the step that made it did, with `kind` and what belongs to it.

    Args:
        uri: a folder that a step made, `models:/NAME@ALIAS` or `models:/NAME/VERSION`, or, where no
            such folder is, a run by name, unambiguous prefix or MLflow run id.
        workspace: whose run is named; whose registry holds the model, without a tracking URI.
        tracking_uri: the MLflow server that holds it.

    Raises:
        DataError: there is nothing of ours.
        RecipeError: several runs have such a name.
        TrackingError: MLflow is away, or knows no such model.
    """
    if uri.startswith(MODELS):
        return _model(uri, workspace=workspace, tracking_uri=tracking_uri)
    if "/" not in uri and not may_exist(Path(uri)):
        from pipelines.lookup.runs import find_run

        return _run(find_run(uri, workspace))
    store = open_store(uri)
    for receipt, describe in _KINDS.items():
        if store.stat(receipt) is not None:
            return describe(store)
    raise DataError(
        f"{store.uri} is no dataset, run, checkpoint, evaluation, verdict, registration or report",
        remedy="name the `uri` that a step printed, a run that `alexnet runs` lists, or"
        " models:/NAME@champion",
    )


def _dataset(store: ObjectStore) -> dict[str, Any]:
    from pipelines.lookup.shuffle_quality import shuffle_quality
    from pipelines.steps.prepare import Dataset, dataset_fields
    from preprocessing.dataset.manifest import open_dataset

    manifest = open_dataset(store)
    options = {
        "name": manifest.name,
        "key": manifest.key,
        "stored_px": [manifest.height_px, manifest.width_px],
        "shape": manifest.shape,
        "encoding": manifest.encoding,
        "rows_per_group": manifest.rows_per_group,
        "num_shards": {"train": len(manifest.train.shards), "val": len(manifest.val.shards)},
        "made_with": manifest.made_with,
        "options": manifest.options,
        "class_entropy_bits": shuffle_quality(store, manifest),
    }
    return {"kind": "dataset", **dataset_fields(Dataset(store, manifest)), **options}


def _run(store: ObjectStore) -> dict[str, Any]:
    from alexnet.train.attempts import read_attempts
    from alexnet.train.checkpoint import list_checkpoints
    from alexnet.train.training_receipt import read_training
    from infra.tracking.run_note import read_notes
    from pipelines.lookup.runs import recipe_of
    from pipelines.steps.train import training_fields

    attempts = read_attempts(store)
    checkpoints = list_checkpoints(store, attempts)
    detail: dict[str, Any] = {
        "recipe": recipe_of(store),
        "checkpoints": [store.child(c.folder).uri for c in checkpoints],
        "starts": [attempt.model_dump() for attempt in attempts],
    }
    receipt = read_training(store)
    if receipt is not None:
        return {"kind": "run", **training_fields(store, receipt), **detail}
    notes = read_notes(store)
    return {
        "kind": "run",
        "mlflow_run_id": notes[-1].run_id if notes else None,
        "status": "UNFINISHED",
        "global_step": checkpoints[-1].step if checkpoints else 0,
        "checkpoint": detail["checkpoints"][-1] if checkpoints else None,
        "attempts": len(attempts),
        **detail,
    }


def _checkpoint(store: ObjectStore) -> dict[str, Any]:
    from alexnet.train.checkpoint import open_checkpoint

    _, state = open_checkpoint(store)
    fields = state.model_dump(mode="json", exclude={"schema_version", "step"})
    return {"kind": "checkpoint", "uri": store.uri, "global_step": state.step, **fields}


def _evaluation(store: ObjectStore) -> dict[str, Any]:
    from alexnet.evaluate.evaluation import open_evaluation
    from pipelines.steps.evaluate import evaluation_fields

    evaluation = open_evaluation(store)
    origin = {
        "global_step": evaluation.step,
        "dataset_fingerprint": evaluation.dataset_fingerprint,
        "model_sha256": evaluation.checkpoint_digest,
    }
    return {"kind": "evaluation", **evaluation_fields(store, evaluation), **origin}


def _verdict(store: ObjectStore) -> dict[str, Any]:
    from alexnet.release.gate import parse_verdict

    newest = max(info.key for info in store.list("verdict-"))
    verdict = parse_verdict(store.read(newest), f"{store.uri}/{newest}")
    return {"kind": "verdict", **verdict.model_dump(mode="json")}


def _registration(store: ObjectStore) -> dict[str, Any]:
    from alexnet.release.registration import parse_registration
    from pipelines.steps.register import RECEIPT, registration_fields

    registration = parse_registration(store.read(RECEIPT), f"{store.uri}/{RECEIPT}")
    return {"kind": "registration", **registration_fields(registration)}


def _report(store: ObjectStore) -> dict[str, Any]:
    from pipelines.steps.report import report_fields

    return {"kind": "report", **report_fields(store)}


def find_version(
    uri: str, *, workspace: str, tracking_uri: str | None
) -> tuple["ModelRegistry", "RegisteredVersion"]:
    """Look up `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Raises:
        DataError: there is no such version.
        TrackingError: MLflow is away.
    """
    from alexnet.release.registry import ModelRegistry

    name, version, alias = _parse_model_uri(uri)
    registry = found = None
    place = place_for(open_store(workspace), tracking_uri)
    # Looking must not make a database, nor a workspace of a mistyped name.
    if (database := sqlite_path(place.uri)) is None or may_exist(database):
        registry = ModelRegistry(place.uri, name)
        found = registry.by_alias(alias) if alias else registry.by_version(version)
    if registry is None or found is None:
        raise _not_registered(uri, workspace, tracking_uri)
    return registry, found


def _not_registered(uri: str, workspace: str, tracking_uri: str | None) -> DataError:
    if tracking_uri is None:
        return DataError(
            f"{uri} is not in the registry of {workspace}",
            remedy="name models:/NAME/VERSION or models:/NAME@ALIAS, and the --workspace or"
            " --tracking-uri it was registered with",
        )
    remedy = "name models:/NAME/VERSION or models:/NAME@ALIAS of that server, or another"
    if is_from_environment(tracking_uri):
        remedy = (
            "$MLFLOW_TRACKING_URI is set, so that server was asked and not the workspace, which is"
            " where `alexnet demo` registers all the same: unset it, or name another"
        )
    return DataError(
        f"{uri} is not in the registry of {without_credentials(tracking_uri)}",
        remedy=f"{remedy} with --tracking-uri",
    )


def _model(uri: str, *, workspace: str, tracking_uri: str | None) -> dict[str, Any]:
    registry, found = find_version(uri, workspace=workspace, tracking_uri=tracking_uri)
    return {
        "kind": "model",
        "model_uri": f"{MODELS}{registry.name}/{found.version}",
        "version": found.version,
        "aliases": list(registry.aliases(found.version)),
        "mlflow_run_id": found.run_id,
        "tags": dict(found.tags),
    }


def _parse_model_uri(uri: str) -> tuple[str, str, str]:
    """Split `models:/NAME/VERSION` or `models:/NAME@ALIAS` into name, version, alias."""
    match = _MODEL_URI.fullmatch(uri)
    if match is None:
        raise DataError(
            f"{uri} names no registered model",
            remedy="write models:/NAME/VERSION or models:/NAME@ALIAS",
        )
    return match["name"], match["version"] or "", match["alias"] or ""


_KINDS: Final = {
    "manifest.json": _dataset,
    RUN: _run,
    "receipt.json": _checkpoint,
    "evaluation.json": _evaluation,
    "verdict-0001.json": _verdict,
    "registration.json": _registration,
    "report.json": _report,
}
"""What the folder of each kind holds when it exists."""
