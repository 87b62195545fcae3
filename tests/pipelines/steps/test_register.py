import io
from types import SimpleNamespace
from typing import Any

import pytest

from alexnet.release.registration import Registration
from alexnet.release.registry import KEY_TAG
from infra.store import FolderStore
from infra.tracking.place import TrackingPlace, place_for
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.steps.register import RECEIPT, Registered, RegisterStep


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
    registry = step._registry()
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

    registry = step._registry()
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
    registry = step._registry()
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
