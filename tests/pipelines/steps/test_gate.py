import io
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alexnet.evaluate.settings import EvaluateSettings
from infra.errors import RecipeError
from infra.store import FolderStore
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.steps.champion import Rival, refuse_other_classes
from pipelines.steps.evaluate import EvaluateStep, evaluation_key
from pipelines.steps.gate import GateStep
from pipelines.steps.prepare import Dataset, PrepareStep


@pytest.fixture
def champion_of_other_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    champion = SimpleNamespace(classes_sha256="0" * 64)
    registry = SimpleNamespace(champion=lambda: champion, name="alexnet")
    monkeypatch.setattr(Context, "registry", registry)


def test_a_champion_of_other_classes_is_no_rival() -> None:
    refuse_other_classes("alexnet", "1" * 64, "1" * 64)
    with pytest.raises(RecipeError, match="tells other classes apart") as caught:
        refuse_other_classes("alexnet", "0" * 64, "1" * 64)
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
    asked = property(lambda _: pytest.fail("asked a server that does not answer"))
    monkeypatch.setattr(Context, "registry", asked)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        store = FolderStore(tmp_path)
        context = Context(load_recipe("demo"), store, place_for(store, uri), io.StringIO())
        prepare: Any = SimpleNamespace(is_done=True)
        evaluate: Any = None
        GateStep(context, prepare, evaluate).check_products()


TEN, NO_TEN = EvaluateSettings(), EvaluateSettings(ten_crop=False)


@pytest.fixture
def gate(tiny_training: Any, tmp_path: Path) -> GateStep:
    store = FolderStore(tmp_path)
    context = Context(load_recipe("demo"), store, place_for(store, None), io.StringIO())
    dataset = Dataset(tiny_training.store, tiny_training.manifest)
    prepare: Any = SimpleNamespace(product=dataset, is_done=True)
    receipt = SimpleNamespace(model_sha256="e" * 64)
    train: Any = SimpleNamespace(product=SimpleNamespace(receipt=receipt))
    return GateStep(context, prepare, EvaluateStep(context, prepare, train))


def champions_key(gate: GateStep, views: EvaluateSettings, view_px: int | None = None) -> str:
    return evaluation_key(
        model_sha256="e" * 64,
        dataset=gate._prepare.product,
        augment=gate.context.recipe.train.augment.model_copy(update={"view_px": view_px}),
        settings=views,
    )


@pytest.mark.parametrize("views", [TEN, NO_TEN, EvaluateSettings(nine_crop=True)])
@pytest.mark.parametrize("tagged", [True, False])
def test_this_very_network_as_champion_is_no_rival_but_is_named(
    gate: GateStep, monkeypatch: pytest.MonkeyPatch, views: EvaluateSettings, tagged: bool
) -> None:
    """The same MLflow by another address, an evaluation made again, or with other views."""
    key = champions_key(gate, views)
    tags = {"alexnet.evaluation_uri": f"s3://elsewhere/evaluations/{key[:16]}"} if tagged else {}
    champion = SimpleNamespace(version="3", tags=tags)
    registry = SimpleNamespace(champion=lambda: champion)
    monkeypatch.setattr(Context, "registry", registry)
    rival = SimpleNamespace(evaluation=SimpleNamespace(key=key))
    monkeypatch.setattr(Rival, "contender", lambda _: rival)
    assert gate._champion() == (None, "3")
    # With these the same weights give other answers.
    rival.evaluation.key = champions_key(gate, views, view_px=60)
    champion.tags = {}
    assert gate._champion() == (rival, None)


def test_a_deleted_experiment_that_is_not_the_recipes_is_nobodys_affair(
    gate: GateStep, mlflow_place: TrackingPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = MlflowTracker(mlflow_place)
    default.create_run(run_key="other", run_name="other")
    default._client().delete_experiment(default._find_experiment())
    gate.context.tracking = mlflow_place
    gate.context.recipe = load_recipe("demo", ["tracking.experiment=e"])
    asked: list[str] = []
    registry = SimpleNamespace(champion=lambda: asked.append("for the champion"))
    monkeypatch.setattr(Context, "registry", registry)
    gate.check_products()
    assert asked == ["for the champion"]
