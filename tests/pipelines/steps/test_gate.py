import io
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.errors import RecipeError
from infra.store import FolderStore
from infra.tracking.place import place_for
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.steps.gate import GateStep, refuse_other_classes
from pipelines.steps.prepare import PrepareStep


@pytest.fixture
def champion_of_other_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    champion = SimpleNamespace(classes_sha256="0" * 64)
    registry = SimpleNamespace(champion=lambda: champion)
    monkeypatch.setattr(GateStep, "_registry", lambda _: registry)


def test_a_champion_of_other_classes_is_no_rival() -> None:
    refuse_other_classes("models:/alexnet@champion", "1" * 64, "1" * 64)
    with pytest.raises(RecipeError, match="tells other classes apart") as caught:
        refuse_other_classes("models:/alexnet@champion", "0" * 64, "1" * 64)
    assert "register.model_name" in caught.value.remedy


@pytest.mark.usefixtures("champion_of_other_classes")
def test_a_champion_of_other_classes_is_told_before_a_dataset_is_made(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    few = ["dataset.drawn.train_per_class=1", "dataset.drawn.val_per_class=1"]
    context = Context(load_recipe("demo", few), store, place_for(store, None), io.StringIO())
    prepare = PrepareStep(context)
    assert not prepare.look()
    evaluate: Any = None
    with pytest.raises(RecipeError, match="models:/alexnet@champion tells other classes apart"):
        GateStep(context, prepare, evaluate).check_products()


def test_an_mlflow_that_never_answers_holds_up_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own retries take minutes; the gate tells when it comes to it."""
    monkeypatch.setattr("pipelines.steps.gate.ELSEWHERE_S", 0.2)
    monkeypatch.setattr(
        GateStep, "_registry", lambda _: pytest.fail("asked a server that does not answer")
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        store = FolderStore(tmp_path)
        context = Context(load_recipe("demo"), store, place_for(store, uri), io.StringIO())
        prepare: Any = None
        evaluate: Any = None
        GateStep(context, prepare, evaluate).check_products()


def test_this_very_network_as_champion_is_no_rival_but_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under another key: the same MLflow by another address, or an evaluation made again."""
    theirs = {"alexnet.evaluation_uri": "s3://elsewhere/evaluations/0123"}
    champion = SimpleNamespace(version="3", tags=theirs)
    registry = SimpleNamespace(champion=lambda: champion)
    monkeypatch.setattr(GateStep, "_registry", lambda _: registry)
    store = FolderStore(tmp_path)
    context = Context(load_recipe("demo"), store, place_for(store, None), io.StringIO())
    evaluated = SimpleNamespace(store=store.child("evaluations/0123"))
    prepare: Any = None
    evaluate: Any = SimpleNamespace(product=evaluated)
    assert GateStep(context, prepare, evaluate)._champion() == (None, "3")
