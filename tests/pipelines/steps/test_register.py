import io
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from alexnet.release.errors import ChampionMoved
from alexnet.release.gate import Verdict
from alexnet.release.registration import Registration
from alexnet.release.registry import KEY_TAG
from infra.store import FolderStore
from infra.tracking.place import TrackingPlace, place_for
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.steps.gate import GateStep
from pipelines.steps.register import RECEIPT, TRIES, Registered, RegisterStep


def register_step(workspace: FolderStore, place: TrackingPlace) -> RegisterStep:
    """The step under some verdict on some evaluation."""
    context = Context(load_recipe("demo"), workspace, place, io.StringIO())
    evaluation = SimpleNamespace(to_bytes=lambda: b"evaluation")
    evaluate: Any = SimpleNamespace(product=SimpleNamespace(evaluation=evaluation))
    gate: Any = SimpleNamespace(product=SimpleNamespace(digest="d"))
    nothing: Any = None
    return RegisterStep(context, nothing, nothing, evaluate, gate)


def make_version(step: RegisterStep) -> Registered:
    """Register, without a model."""
    registry = step.context.registry
    registry.registry_id()
    made = registry._client.create_model_version(
        registry.name, source="file:///model", tags={KEY_TAG: step._version_key}
    )
    registration = Registration(
        key=step._version_key,
        model_name=registry.name,
        version=str(made.version),
        model_uri=f"models:/{registry.name}/{made.version}",
        aliases=(),
        registry_id="r",
    )
    step.folder().create(RECEIPT, registration.to_bytes())
    return Registered(step.folder(), registration)


def test_a_version_that_was_deleted_in_mlflow_is_registered_again(
    workspace: FolderStore, mlflow_place: TrackingPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RegisterStep, "_register", make_version)
    step = register_step(workspace, mlflow_place)
    make_version(step)
    assert step.look()
    step.catch_up()
    assert step.product.registration.version == "1"

    registry = step.context.registry
    registry._client.delete_model_version(registry.name, "1")
    step.catch_up()
    assert step.product.registration.version == "2"
    again = register_step(workspace, mlflow_place)
    assert again.look()
    again.catch_up()
    assert again.product.registration.version == "2"
    assert isinstance(step.context.stream, io.StringIO)
    assert step.context.stream.getvalue().splitlines() == [
        f"register: models:/{registry.name}/1 was deleted in MLflow; registering again"
    ]


def test_one_that_was_taken_back_and_deleted_does_not_return(
    workspace: FolderStore, mlflow_place: TrackingPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RegisterStep, "_register", lambda _: pytest.fail("it is champion again"))
    step = register_step(workspace, mlflow_place)
    make_version(step)
    registry = step.context.registry
    other = registry._client.create_model_version(registry.name, source="file:///other")
    registry._client.set_registered_model_alias(registry.name, "champion", other.version)
    registry._client.delete_model_version(registry.name, "1")
    assert step.look()
    step.catch_up()
    assert step.product.registration.version == "1"
    assert isinstance(step.context.stream, io.StringIO)
    said = step.context.stream.getvalue()
    assert "was deleted in MLflow, where version 2 is champion: left so" in said
    assert step.folder().uri in said


def test_while_mlflow_is_away_a_version_is_taken_to_be_there(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.steps.register.ASKED_S", 0.2)
    monkeypatch.setattr(RegisterStep, "make", lambda _: pytest.fail("nobody knows"))
    step = register_step(workspace, place_for(workspace, "http://127.0.0.1:9"))
    step.catch_up()


@dataclass
class Moving:
    """A champion that moves while models are registered, and what the gate then says."""

    step: RegisterStep
    gate: GateStep
    num_moves: int = 0
    registered: list[Verdict] = field(default_factory=list)

    def champion(self) -> str:
        """Give the present champion's version."""
        return str(len(self.registered) + 1)

    def judge(self, *_: object, **__: object) -> Verdict:
        """Judge against the present champion."""
        return VERDICT.model_copy(update={"champion": self.champion()})

    def register(
        self,
        _: object,
        __: object,
        verdict: Verdict,
        *,
        key: str,
        expected_champion: str,
        **___: object,
    ) -> Registration:
        """Register, if the champion has not moved once more."""
        assert verdict.champion == expected_champion == self.champion()
        self.registered.append(verdict)
        if len(self.registered) <= self.num_moves:
            raise ChampionMoved("the champion moved", remedy="judge again")
        return Registration(
            key=key,
            model_name="m",
            version="1",
            model_uri="models:/m/1",
            aliases=(),
            registry_id="r",
        )


VERDICT = Verdict(
    verdict="accepted",
    reasons=(),
    champion=None,
    top1=0.5,
    champion_top1=None,
    mcnemar_p=None,
    per_class_regressions=(),
)


@pytest.fixture
def moving(workspace: FolderStore, monkeypatch: pytest.MonkeyPatch) -> Moving:
    context = Context(load_recipe("demo"), workspace, place_for(workspace, None), io.StringIO())
    monkeypatch.setattr(Context, "registry", None)
    evaluation = SimpleNamespace(to_bytes=lambda: b"evaluation")
    store, classes = workspace, SimpleNamespace(classes=())
    evaluate: Any = SimpleNamespace(product=SimpleNamespace(store=store, evaluation=evaluation))
    prepare: Any = SimpleNamespace(product=SimpleNamespace(store=store, manifest=classes))
    receipt = SimpleNamespace(run_key="r")
    training = SimpleNamespace(checkpoint=None, receipt=receipt)
    train: Any = SimpleNamespace(product=training, run=SimpleNamespace(ensure_id=lambda: "i"))
    gate = GateStep(context, prepare, evaluate)
    found = Moving(RegisterStep(context, prepare, train, evaluate, gate), gate)
    monkeypatch.setattr(GateStep, "_champion", lambda _: (None, None))
    monkeypatch.setattr("pipelines.steps.gate.judge", found.judge)
    monkeypatch.setattr("alexnet.release.contender.read_contender", lambda *_: None)
    monkeypatch.setattr("preprocessing.dataset.labels.read_classes", lambda *_: None)
    monkeypatch.setattr("alexnet.trained.trained_network", lambda *_: None)
    monkeypatch.setattr("alexnet.release.register.register", found.register)
    return found


def test_a_champion_that_moves_has_it_judged_again_and_the_newest_verdict_counts(
    moving: Moving,
) -> None:
    gate, step = moving.gate, moving.step
    gate.ensure(lambda: None)
    assert not step.look()
    under_the_first = step.folder().uri
    moving.num_moves = 1
    step.ensure(lambda: None)

    assert [verdict.champion for verdict in moving.registered] == ["1", "2"]
    assert [info.key for info in gate.folder().list("verdict-")] == [
        "verdict-0001.json",
        "verdict-0002.json",
    ]
    assert gate.product.verdict.champion == "2"
    found = gate.find()
    assert found is not None
    assert found.verdict.champion == "2"
    # The receipt is this verdict's: a rerun, which finds the newest, finds it.
    assert step.folder().uri != under_the_first
    assert step.look()
    assert step.product.store.uri == step.folder().uri


def test_a_champion_that_never_stands_still_ends_the_command(moving: Moving) -> None:
    moving.gate.ensure(lambda: None)
    moving.num_moves = TRIES
    with pytest.raises(ChampionMoved):
        moving.step.ensure(lambda: None)
    assert len(moving.registered) == TRIES
    assert moving.step.find() is None
