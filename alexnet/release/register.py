"""Stage 10 of 11, register: a judged network → a version of the registered model, with aliases."""

import logging
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass

from alexnet.evaluate.evaluation import open_evaluation, read_predictions
from alexnet.release.errors import ChampionMoved, ModelNotServable
from alexnet.release.gate import Verdict
from alexnet.release.log_model import delete_model, log_model
from alexnet.release.registration import Registration
from alexnet.release.registry import (
    CHALLENGER,
    CHAMPION,
    CLASSES_TAG,
    ModelRegistry,
    RegisteredVersion,
)
from alexnet.release.trial import try_model
from alexnet.trained import TrainedNetwork
from infra.errors import TrackingError
from infra.store import ObjectStore
from preprocessing.dataset.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is to be registered."""

    trained: TrainedNetwork
    dataset: ObjectStore
    """The evaluation's dataset."""
    manifest: Manifest
    evaluation: ObjectStore
    """The evaluation's folder."""
    run_key: str
    run_id: str
    """The training's run, on the registry's MLflow."""


def register(
    registry: ModelRegistry,
    candidate: Candidate,
    verdict: Verdict,
    *,
    key: str,
    expected_champion: str | None,
    turn: AbstractContextManager[object],
) -> Registration:
    """Log a network, try it in a fresh process, make a version, set its aliases.

    `challenger` moves to it in any case, `champion` only if the gate accepted it. With the same
    key a second call makes no second version; so the key must not depend on the verdict, which
    changes when the champion moves.

    Args:
        registry: where.
        candidate: what.
        verdict: the gate's.
        key: the registration's.
        expected_champion: version the verdict is about; None if there was no champion.
        turn: entered while the champion is looked at and the aliases are set; whoever registers
            under this name must wait meanwhile, for MLflow has no compare-and-set.

    Raises:
        ChampionMoved: an accepted verdict is about another champion than there is: judge again.
        ModelNotServable: the logged model does not answer as evaluated; no version was made.
        TrackingError: MLflow cannot be reached, or refuses.
    """
    version = registry.find(key)
    if verdict.accepted:
        _check_champion(registry, expected_champion, version)
    if version is None:
        version = _make_version(registry, candidate, key)
    registry.set_tags(version.version, _tags(candidate, verdict))
    with turn:
        registry.set_alias(CHALLENGER, version.version)
        if verdict.accepted:
            # Again: logging and trying took a while.
            _check_champion(registry, expected_champion, version)
            registry.set_alias(CHAMPION, version.version)
    log.info("registered name=%s version=%s %s", registry.name, version.version, verdict.verdict)
    return Registration(
        key=key,
        model_name=registry.name,
        version=version.version,
        model_uri=f"models:/{registry.name}/{version.version}",
        aliases=registry.aliases(version.version),
        registry_id=registry.registry_id(),
    )


def _make_version(registry: ModelRegistry, candidate: Candidate, key: str) -> RegisteredVersion:
    uri, run_id = registry.tracking_uri, candidate.run_id
    model_id = log_model(candidate.trained, tracking_uri=uri, run_id=run_id, key=key)
    evaluation = open_evaluation(candidate.evaluation)
    try:
        try_model(
            f"models:/{model_id}",
            uri,
            dataset=candidate.dataset,
            manifest=candidate.manifest,
            predictions=read_predictions(candidate.evaluation, evaluation),
        )
    except ModelNotServable:
        with suppress(TrackingError):  # then the next try finds it, and deletes it
            delete_model(model_id, tracking_uri=uri)
        raise
    return registry.create(key=key, model_id=model_id, run_id=run_id, tags={})


def _tags(candidate: Candidate, verdict: Verdict) -> dict[str, str]:
    return {
        "alexnet.run_key": candidate.run_key,
        "alexnet.evaluation_uri": candidate.evaluation.uri,
        "alexnet.dataset_fingerprint": candidate.manifest.fingerprint,
        CLASSES_TAG: candidate.manifest.classes.sha256,
        "alexnet.top1": f"{verdict.top1:.6f}",
        "alexnet.verdict": verdict.verdict,
    }


def _check_champion(
    registry: ModelRegistry, expected: str | None, version: RegisteredVersion | None
) -> None:
    champion = registry.champion()
    found = champion.version if champion else None
    already = version is not None and found == version.version
    if found != expected and not already:
        raise ChampionMoved(
            f"the gate judged against champion {expected or 'none'} of {registry.name}, "
            f"which is now {found or 'none'}",
            remedy="run again: the gate then judges against the present champion",
        )
