"""The same functions as the commands, from Python; the whole of a run is in tests/end_to_end."""

import shutil
from inspect import signature
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
import yaml
from PIL import Image

import pipelines
from infra.errors import ProjectError, RecipeError
from pipelines.defaults import folder_overrides, tracking_or_environment, workspace_or_default
from pipelines.recipe_yaml import slug_of


def test_the_exported_names_are_these() -> None:
    assert dir(pipelines) == pipelines.__all__ == [
        "check_gradients", "check_storage", "clean", "compare_runs", "ensemble", "estimate",
        "export", "features", "figures", "inspect", "list_runs", "load_recipe", "predict",
        "reap_runs", "repair", "run", "similar", "submission", "validate", "verify",
    ]  # fmt: skip


def test_every_name_is_a_documented_function() -> None:
    modules = {module.name for module in iter_modules(pipelines.__path__)}
    for name in pipelines.__all__:
        assert getattr(pipelines, name).__doc__
        # A module of that name would take the function's place once it is imported.
        assert name not in modules
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        pipelines.guess  # noqa: B018


def test_a_recipe_is_loaded_with_overrides() -> None:
    assert pipelines.load_recipe("demo", ["train.epochs=3"]).train.epochs == 3
    with pytest.raises(RecipeError, match="did you mean 'demo'"):
        pipelines.load_recipe("dmeo")


def test_a_dry_run_says_what_would_run(tmp_path: Path) -> None:
    few = ["dataset.drawn.train_per_class=1", "dataset.drawn.val_per_class=1"]
    found = pipelines.run("demo", few, until="train", workspace=str(tmp_path), dry_run=True)
    assert [(step["name"], step["state"]) for step in found["steps"]] == [
        ("prepare", "would-run"),
        ("train", "would-run"),
    ]


def test_a_workspace_is_foreseen_cleaned_and_its_place_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["dataset.drawn.train_per_class=1", "dataset.drawn.val_per_class=1"]
    few += ["dataset.drawn.num_classes=2", "prepare.stored_px=16", "train.augment.crop_px=12"]
    recipe = pipelines.load_recipe("demo", few)
    found, again = (
        pipelines.estimate(*of, workspace=str(tmp_path)) for of in ((recipe,), ("demo", few))
    )
    assert {**found, "core_hours": 0} == {**again, "core_hours": 0}
    assert found["train"]["num_images"] == 2
    assert not (tmp_path / "datasets").exists()
    with pytest.raises(RecipeError, match="is no workspace"):
        pipelines.clean(workspace=str(tmp_path))
    promises = pipelines.check_storage(str(tmp_path / "new"))["promises"]
    assert set(promises.values()) == {"kept"}
    (tmp_path / "workspace.json").write_text("{}")
    assert pipelines.clean(workspace=str(tmp_path))["num_removed"] == 0
    assert capsys.readouterr().out == ""


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_dataset_is_verified_and_mended(tiny_training: Any, tmp_path: Path) -> None:
    dataset = tmp_path / "d"
    shutil.copytree(tiny_training.store.uri, dataset)
    (dataset / "stats.safetensors").write_bytes(b"short")
    found = pipelines.verify(str(dataset))
    assert not found["whole"]
    assert "stats.safetensors" in {item["path"] for item in found["problems"]}
    assert "error" not in found
    few = ["dataset.drawn.num_classes=2", "dataset.drawn.train_per_class=8"]
    few += ["dataset.drawn.val_per_class=3", "prepare.stored_px=16", "train.augment.crop_px=12"]
    made = pipelines.repair("demo", few, workspace=str(tmp_path / "w"))
    assert made["repaired"] == []
    shard = next(Path(made["uri"]).glob("train/*.parquet"))
    shard.unlink()
    mended = pipelines.repair("demo", few, workspace=str(tmp_path / "w"))
    assert mended["repaired"] == [f"train/{shard.name}"]
    assert pipelines.verify(made["uri"], deep=True)["whole"]


def test_what_a_loaded_recipe_cannot_take_is_refused_and_not_dropped(tmp_path: Path) -> None:
    recipe = pipelines.load_recipe("demo")
    changes: list[dict[str, Any]] = [
        {"overrides": ["train.epochs=3"]},
        {"from_folder": str(tmp_path)},
    ]
    for change in changes:
        with pytest.raises(RecipeError, match="a loaded recipe takes no overrides") as caught:
            pipelines.run(recipe, **change, workspace=str(tmp_path / "w"), dry_run=True)
        assert "load_recipe" in caught.value.remedy


def test_an_unknown_step_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no step 'trian'") as caught:
        pipelines.run("demo", until="trian", workspace=str(tmp_path), dry_run=True)
    assert caught.value.remedy == "name one of prepare, train, evaluate, gate, register, report"


def test_trainings_are_listed_compared_inspected_and_asked(
    tiny_training: Any, tmp_path: Path
) -> None:
    checkpoint = tiny_training.checkpoint.uri
    assert pipelines.list_runs(workspace=str(tmp_path)) == []
    with pytest.raises(RecipeError):
        pipelines.compare_runs([], workspace=str(tmp_path))
    assert pipelines.inspect(checkpoint)["kind"] == "checkpoint"
    workspace = tmp_path / "workspace"
    shutil.copytree(tiny_training.store.uri, workspace / "datasets" / "tiny")
    table = pipelines.predict(checkpoint, tiny_training.store.uri, workspace=str(workspace))
    assert table.num_rows == 150
    assert set(table["wnid"].to_pylist()) <= {f"n{label:08}" for label in range(7)}


FEW = ["dataset.drawn.train_per_class=1", "dataset.drawn.val_per_class=1"]
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "check_gradients": ((Path("mine.yaml"),), {}),
    "check_storage": ((Path("place"),), {}),
    "clean": ((), {}),
    "compare_runs": (([Path("a"), Path("b")],), {}),
    "ensemble": (([Path("a"), Path("b")],), {"output": Path("mean.parquet")}),
    "estimate": ((Path("mine.yaml"),), {"from_folder": Path("photos")}),
    "export": ((Path("r/c/checkpoint"),), {"output": Path("plain")}),
    "features": ((Path("r/c/checkpoint"), Path("a.png")), {"output": Path("f.parquet")}),
    "figures": ((Path("nothing/checkpoint"), [Path("a.png")]), {"output": Path("drawn")}),
    "inspect": ((Path("r/c/checkpoint"),), {}),
    "list_runs": ((), {}),
    "reap_runs": ((), {}),
    "load_recipe": ((Path("mine.yaml"),), {}),
    "predict": ((Path("r/c/checkpoint"), Path("a.png")), {"output": Path("p.csv")}),
    "repair": ((Path("mine.yaml"),), {"from_folder": Path("photos")}),
    "run": (("demo", FEW), {"until": "prepare", "dry_run": True}),
    "similar": (
        (Path("r/c/checkpoint"), [Path("a.png")]),
        {"among": Path("a.png"), "output": Path("s.csv"), "picture": Path("s.png")},
    ),
    "submission": (
        (Path("r/c/checkpoint"), Path("a.png")),
        {"output": Path("a.txt"), "devkit": Path("kit"), "truth": Path("truth.txt")},
    ),
    "validate": ((Path("r/c/checkpoint"), Path("dataset")), {}),
    "verify": ((Path("dataset"),), {}),
}


def outcome(name: str, as_: type, workspace: Path) -> str:
    """What comes of a call whose paths are of this type."""

    def mapped(value: Any) -> Any:
        if isinstance(value, list):
            return [mapped(one) for one in value]
        return as_(value) if isinstance(value, Path) else value

    words, options = CALLS[name]
    function = getattr(pipelines, name)
    if "workspace" in signature(function).parameters:
        options = {**options, "workspace": workspace}
    named = {key: mapped(value) for key, value in options.items()}
    try:
        return type(function(*map(mapped, words), **named)).__name__
    except ProjectError as error:
        return f"{type(error).__name__}: {error.problem}"


@pytest.mark.parametrize("name", pipelines.__all__)
def test_a_path_object_does_as_well_as_a_text(
    name: str, tiny_training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_training.store.uri, "w/datasets/tiny")
    shutil.copytree(tiny_training.checkpoint.uri, "r/c/checkpoint")
    Image.new("RGB", (60, 50)).save("a.png")
    told = outcome(name, Path, Path("w"))
    assert told == outcome(name, str, Path("w"))
    if name in (
        "export",
        "features",
        "predict",
        "similar",
        "run",
        "inspect",
        "list_runs",
        "check_storage",
    ):
        assert ":" not in told


def test_what_is_not_said_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXNET_WORKSPACE", "/w")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://m")
    assert (workspace_or_default(None), workspace_or_default("/v")) == ("/w", "/v")
    assert (tracking_or_environment(None), tracking_or_environment("http://n")) == (
        "http://m",
        "http://n",
    )
    monkeypatch.delenv("ALEXNET_WORKSPACE")
    assert workspace_or_default(None).endswith("alexnet")


@pytest.mark.parametrize(
    "folder",
    [
        *("/a/b", "it's", 'a "b"', "back\\slash", "Äpfel 🍎", "tab\there", "no", "1e3", "a: b"),
        *("photos/2024-30-11", "null", "0x_", "2012"),
    ],
)
def test_any_folder_name_reaches_the_recipe_as_it_is(folder: str) -> None:
    recipe = pipelines.load_recipe("demo", folder_overrides(folder))
    assert (recipe.dataset.folder, recipe.dataset.archives) == (folder, None)
    (override,) = (word for word in folder_overrides(folder) if word.startswith("dataset.folder="))
    assert yaml.safe_load(override.partition("=")[2]) == folder
    assert recipe.dataset.name == slug_of(folder)
    assert folder_overrides(None) == []


def test_an_empty_word_is_refused_and_not_the_default() -> None:
    for refused in (workspace_or_default, tracking_or_environment, folder_overrides):
        with pytest.raises(RecipeError, match="given is empty") as caught:
            refused("")
        assert "to have the default" in caught.value.remedy
