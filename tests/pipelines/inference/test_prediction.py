"""On a workspace that holds the tiny training and what was named, in this process."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from alexnet.inference.errors import InputRejected
from alexnet.inference.predictor import COLUMNS
from alexnet.train.attempts import claim_attempt
from infra.errors import DataError, RecipeError, StoreError
from infra.store import FolderStore
from infra.tracking.run_note import FOLDER, RunNote
from pipelines.inference.prediction import Predictions, predict_images
from preprocessing.dataset.stored import encode_jpeg


@pytest.fixture
def workspace(tiny_training: Any, tmp_path: Path) -> Path:
    """A workspace with one training, unfinished, and its dataset."""
    root = tmp_path / "workspace"
    run = root / "runs" / "demo-1a2b3c4d5e6f7a8b"
    checkpoint = Path(tiny_training.checkpoint.uri)
    shutil.copytree(checkpoint, run / "checkpoints" / checkpoint.name)
    shutil.copytree(tiny_training.store.uri, root / "datasets" / "tiny-0")
    (root / "datasets" / "older").mkdir()
    (root / "datasets" / "older" / "manifest.json").write_text("{}")
    (run / "run.json").write_text("{}")
    claim_attempt(FolderStore(run), start_step=0, world_size=1)
    note = RunNote(server="workspace", run_id="f" * 32)
    FolderStore(run).write(f"{FOLDER}0001.json", note.model_dump_json().encode())
    return root


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    jpeg = encode_jpeg(noise, 90)
    (folder / "noise, grey.jpg").write_bytes(jpeg)
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "note.txt").write_bytes(b"hello")
    return folder


def predict(model: object, *images: object, workspace: Path, **options: Any) -> Predictions:
    settings: dict[str, Any] = {"view": "center", "output": None, **options}
    return predict_images(
        str(model),
        [str(image) for image in images],
        workspace=str(workspace),
        tracking_uri=None,
        stream=io.StringIO(),
        **settings,
    )


def test_what_is_no_image_is_listed_and_does_not_stop_the_others(
    workspace: Path, pictures: Path
) -> None:
    fields = predict("demo-1a", pictures, workspace=workspace).fields()
    json.dumps(fields, allow_nan=False)
    assert (fields["count"], fields["num_rejected"], fields["view"]) == (1, 2, "center")
    assert fields["model"].endswith("/checkpoints/step-00000000-a0001")
    assert fields["global_step"] == 0
    (found,) = fields["predictions"]
    assert found["path"] == f"{pictures}/noise, grey.jpg"
    assert [list(item) for item in found["top"]] == [["label", "wnid", "name", "probability"]] * 5
    best = found["top"][0]
    assert best["name"] == f"class {best['label']}"
    rejected = {Path(item["path"]).name: item["reason"] for item in fields["rejected"]}
    assert rejected["note.txt"] == "not an image"
    assert "truncated" in rejected["cut.jpg"]


def test_a_model_is_a_run_by_any_of_its_names_or_a_checkpoint(
    workspace: Path, pictures: Path
) -> None:
    run = workspace / "runs" / "demo-1a2b3c4d5e6f7a8b"
    checkpoint = run / "checkpoints" / "step-00000000-a0001"
    models = ["demo", run.name, "f" * 32, run, f"{run}/", checkpoint]
    answers = {
        json.dumps(predict(model, pictures, workspace=workspace).fields()) for model in models
    }
    assert len(answers) == 1
    # A copied workspace has all it needs; the one that is named has nothing.
    moved = workspace.rename(workspace.with_name("moved")) / checkpoint.relative_to(workspace)
    assert predict(moved, pictures, workspace=workspace).answers.num_rows == 3
    # A checkpoint by itself needs the workspace of its dataset.
    alone = shutil.copytree(moved, workspace.with_name("alone"))
    assert predict(alone, pictures, workspace=workspace.with_name("moved")).step == 0
    with pytest.raises(DataError, match=r"was trained on dataset .* which is not in"):
        predict(alone, pictures, workspace=workspace)


def test_the_views_differ(workspace: Path, pictures: Path) -> None:
    ten = predict("demo", pictures, workspace=workspace, view="ten_crop")
    assert ten.fields()["view"] == "ten_crop"
    assert not ten.answers.equals(predict("demo", pictures, workspace=workspace).answers)


def test_the_table_has_the_models_columns_and_a_reason(workspace: Path, pictures: Path) -> None:
    output = pictures.parent / "new folder" / "names.parquet"
    table = predict("demo", pictures, workspace=workspace, output=str(output)).table
    assert table.column_names == ["path", *COLUMNS, "reason"]
    assert pq.read_table(output).equals(table)
    good = [row for row in table.to_pylist() if row["reason"] is None]
    assert good[0]["name"] == good[0]["top5_names"][0]
    bad = [row for row in table.to_pylist() if row["reason"] is not None]
    assert {value for row in bad for name, value in row.items() if name in COLUMNS} == {None}
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_every_probability_is_written_to_parquet_only(workspace: Path, pictures: Path) -> None:
    output = pictures.parent / "names.parquet"
    options: dict[str, Any] = {"workspace": workspace, "all_probabilities": True}
    found = predict("demo", pictures, output=str(output), **options)
    assert found.fields() == {
        **predict("demo", pictures, workspace=workspace).fields(),
        "output": str(output),
    }
    table = pq.read_table(output)
    assert table.column_names == ["path", *COLUMNS, "all_probabilities", "reason"]
    for row in table.to_pylist():
        if row["reason"] is None:
            best = row["all_probabilities"][row["label"]]
            assert best == pytest.approx(row["probability"])
        else:
            assert row["all_probabilities"] is None
    with pytest.raises(RecipeError, match=r"does not end with \.parquet"):
        predict("demo", pictures, output=str(output.with_suffix(".csv")), **options)


def test_csv_has_a_column_for_each_of_the_best_five(workspace: Path, pictures: Path) -> None:
    output = pictures / "names.csv"
    for _ in range(2):  # the second time it lies among the pictures, and is replaced
        fields = predict("demo", pictures, workspace=workspace, output=str(output)).fields()
    table = pyarrow.csv.read_csv(output)
    assert table.column_names[:5] == ["path", "label_1", "wnid_1", "name_1", "probability_1"]
    assert table.column_names[-2:] == ["probability_5", "reason"]
    rows = {Path(row["path"]).name: row for row in table.to_pylist()}
    assert len(rows) == 4
    top = fields["predictions"][0]["top"]
    row = rows["noise, grey.jpg"]
    assert (row["label_5"], row["name_5"]) == (top[4]["label"], top[4]["name"])
    assert row["probability_5"] == pytest.approx(top[4]["probability"])


@pytest.mark.parametrize("name", ["names.json", "names", "names.parquet.zip", ".csv"])
def test_another_suffix_is_refused_before_all_else(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"not end with \.parquet or \.csv"):
        predict("no model", "no image", workspace=tmp_path, output=str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused_before_all_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        predict("m", "no image", workspace=tmp_path, output=str(tmp_path / "file" / "a.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RecipeError, match="is a folder"):
        predict("m", "no image", workspace=tmp_path, output=str(tmp_path / "folder.csv"))


def test_if_none_is_an_image_nothing_is_written(workspace: Path, pictures: Path) -> None:
    output = pictures.parent / "names.csv"
    with pytest.raises(InputRejected, match=r"note\.txt is no image: not an"):
        predict("demo", pictures / "note.txt", workspace=workspace, output=str(output))
    assert not output.exists()


def test_a_missing_path_and_a_missing_model_are_named(workspace: Path, pictures: Path) -> None:
    with pytest.raises(InputRejected, match="no file or folder gone"):
        predict("demo", pictures, "gone.jpg", workspace=workspace)
    with pytest.raises(DataError, match="'other' is no training of the workspace"):
        predict("other", pictures, workspace=workspace)
    shutil.rmtree(workspace / "runs" / "demo-1a2b3c4d5e6f7a8b" / "checkpoints")
    with pytest.raises(DataError, match="has no sound checkpoint"):
        predict("demo", pictures, workspace=workspace)
