"""`alexnet export`: the tiny training as plain files, which every command takes for a model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import pipelines
from alexnet.release.package import FILES, STATISTICS
from infra.errors import DataError, ObjectCorrupt, RecipeError
from pipelines.cli import app
from pipelines.inference import exporting
from pipelines.lookup.models import open_model
from pipelines.lookup.related import find_related


@pytest.fixture
def workspace(tiny_training: Any, tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    shutil.copytree(tiny_training.store.uri, root / "datasets" / "tiny-0")
    return root


@pytest.fixture
def checkpoint(tiny_training: Any) -> str:
    return str(tiny_training.checkpoint.uri)


def test_what_is_exported_is_a_model_for_every_command(
    workspace: Path, checkpoint: str, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    words = ["export", checkpoint, "--output", str(folder), "-w", str(workspace), "--json"]
    found = json.loads(CliRunner().invoke(app, words).stdout)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert [item["path"] for item in found["files"]] == list(FILES)
    assert (found["model"], found["num_classes"]) == (checkpoint, 7)
    tensors = load_file(folder / "weights.safetensors")
    assert "conv1.weight" in tensors
    dataset = workspace / "datasets" / "tiny-0"
    # It brings statistics and classes: an empty workspace does.
    there = pipelines.predict(folder, dataset, workspace=tmp_path / "empty")
    assert there.equals(pipelines.predict(checkpoint, dataset, workspace=workspace))
    again = pipelines.export(folder, output=tmp_path / "copy", workspace=tmp_path / "empty")
    assert (again["files"], again["model"]) == (found["files"], str(folder))


def test_an_exported_model_finds_its_dataset_by_its_bytes(
    workspace: Path, checkpoint: str, tmp_path: Path
) -> None:
    pipelines.export(checkpoint, output=tmp_path / "plain", workspace=workspace)
    name = str(tmp_path / "plain")
    with open_model(name, workspace=str(workspace), tracking_uri=None) as (uri, trained):
        related = find_related(uri, trained, str(workspace))
    assert related.dataset is not None
    assert related.dataset[0].uri == f"{workspace}/datasets/tiny-0"
    assert related.run is None


def test_another_model_is_not_overwritten_and_the_same_is_written_again(
    workspace: Path, checkpoint: str, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    pipelines.export(checkpoint, output=folder, workspace=workspace)
    (folder / STATISTICS).unlink()
    with pytest.raises(DataError):
        pipelines.predict(folder, workspace / "datasets" / "tiny-0", workspace=workspace)
    pipelines.export(checkpoint, output=folder, workspace=workspace)
    assert (folder / STATISTICS).exists()
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(described | {"step": 9}))
    with pytest.raises(RecipeError, match="holds another model"):
        pipelines.export(checkpoint, output=folder, workspace=workspace)


def test_files_that_answer_otherwise_are_no_export(
    workspace: Path, checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another(trained: Any, folder: Path) -> None:
        write_package(trained, folder)
        tensors = load_file(folder / "weights.safetensors")
        tensors["fc8.bias"][0] += 1e-6
        save_file(tensors, folder / "weights.safetensors")
        body = (folder / "weights.safetensors").read_bytes()
        described = json.loads((folder / "model.json").read_text())
        described["weights"] = describe_object("weights.safetensors", body).model_dump()
        (folder / "model.json").write_text(json.dumps(described))

    write_package, describe_object = exporting.write_package, exporting.describe_object
    monkeypatch.setattr(exporting, "write_package", another)
    with pytest.raises(ObjectCorrupt, match="bit for bit"):
        pipelines.export(checkpoint, output=tmp_path / "plain", workspace=workspace)
