"""`alexnet validate`: the tiny training, counted on its own images and on others."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import pipelines
from alexnet.evaluate.interval import interval_95
from infra.commit import write_object
from infra.errors import RecipeError
from infra.parquet import parquet_bytes
from infra.store import FolderStore
from pipelines.cli import app
from pipelines.inference.validation import validate_model
from preprocessing.dataset.labels import make_classes
from preprocessing.dataset.manifest import MANIFEST, Manifest

COUNT = 150


@pytest.fixture
def workspace(tiny_training: Any, tmp_path: Path) -> Path:
    """A workspace with the dataset of a checkpoint that lies beside it."""
    root = tmp_path / "workspace"
    shutil.copytree(tiny_training.store.uri, root / "datasets" / "tiny-0")
    return root


@pytest.fixture
def checkpoint(tiny_training: Any) -> str:
    return str(tiny_training.checkpoint.uri)


def labels_of(dataset: Path) -> list[int]:
    return [
        label
        for shard in sorted(dataset.glob("val/*.parquet"))
        for label in pq.read_table(shard, columns=["label"])["label"].to_pylist()
    ]


def change(store: FolderStore, **fields: Any) -> Manifest:
    """Write other things into a dataset's manifest."""
    manifest = Manifest.model_validate_json(store.read(MANIFEST)).model_copy(update=fields)
    store.write(MANIFEST, manifest.to_bytes())
    return manifest


def write_members(store: FolderStore, split: str, ids: range) -> Manifest:
    """Give a dataset a list of the files it was made of: a digest is of its number."""
    table = pa.table(
        {
            "split": pa.array([split] * len(ids)).dictionary_encode(),
            "sample_id": pa.array(ids),
            "sha256": [f"{number:064}" for number in ids],
        }
    )
    return change(store, members=write_object(store, "members.parquet", parquet_bytes(table)))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_network_is_counted_once_and_as_it_answers(workspace: Path, checkpoint: str) -> None:
    dataset = workspace / "datasets" / "tiny-0"
    found = pipelines.validate(checkpoint, dataset, workspace=workspace)
    answers = pipelines.predict(checkpoint, dataset, workspace=workspace)
    labels = labels_of(dataset)
    right = sum(a == b for a, b in zip(answers["label"].to_pylist(), labels, strict=True))
    assert (found["count"], found["center"]["correct1"]) == (COUNT, right)
    assert found["center"]["top1_interval"] == list(interval_95(right, COUNT))
    assert (found["ten_crop"], found["num_trained_on"]) == (None, 0)
    assert (found["model"], found["dataset"]) == (checkpoint, str(dataset))
    again = CliRunner().invoke(
        app, ["validate", checkpoint, str(dataset), "-w", str(workspace), "--json"]
    )
    assert json.loads(again.stdout) == found
    assert "Ray" not in again.stderr
    assert pipelines.inspect(found["uri"])["center"]["correct1"] == right
    text = CliRunner().invoke(app, ["validate", checkpoint, str(dataset), "-w", str(workspace)])
    assert f"{right / COUNT:.4f} (" in text.stdout
    assert "0 of them" in text.stdout


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_images_of_another_size_and_those_it_was_trained_on(
    workspace: Path, checkpoint: str, tmp_path: Path, write_tiny_dataset: Any
) -> None:
    other = FolderStore(tmp_path / "other")
    write_tiny_dataset(other, 64)
    write_members(FolderStore(workspace / "datasets" / "tiny-0"), "train", range(10))
    write_members(other, "val", range(5, COUNT))
    found = pipelines.validate(checkpoint, other.uri, workspace=workspace)
    assert (found["count"], found["num_trained_on"]) == (COUNT, 5)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (
            {f"n{label:08}": f"class {label}" for label in range(2, 7)},
            "the dataset has no 'n00000000', 'n00000001'",
        ),
        (
            {f"n{label:08}": f"class {label}" for label in range(12)},
            "the network has no 'n00000007', 'n00000008', 'n00000009' and 2 more",
        ),
        (
            {f"n{label:08}": f"kind {label}" for label in range(7)},
            "n00000000 is called 'class 0' by the one and 'kind 0' by the other",
        ),
    ],
)
def test_other_classes_are_refused_by_name(
    workspace: Path, checkpoint: str, tmp_path: Path, names: dict[str, str], problem: str
) -> None:
    other = FolderStore(tmp_path / "other")
    shutil.copytree(workspace / "datasets" / "tiny-0", other.uri)
    change(other, classes=write_object(other, "classes.json", make_classes(names).to_bytes()))
    with pytest.raises(RecipeError) as caught:
        validate_model(
            checkpoint,
            other.uri,
            view="center",
            workspace=str(workspace),
            tracking_uri=None,
            stream=io.StringIO(),
        )
    assert caught.value.problem == (
        f"{checkpoint} tells other classes apart than {other.uri} has: {problem}"
    )
    assert not (workspace / "evaluations").exists()
