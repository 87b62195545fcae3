"""`alexnet figures` on a finished, evaluated run; in this process, and once by its command line."""

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import pipelines
from alexnet.inference.errors import InputRejected
from infra.errors import DataError, RecipeError, StoreError
from pipelines.cli import app
from pipelines.inference.drawing import draw_figures
from pipelines.lookup.related import Related
from pipelines.recipe_yaml import load_recipe
from preprocessing.dataset.stored import encode_jpeg

ALL = {
    "filters.png", "film.png", "curves.png", "panel.png", "maps.png", "saliency.png",
    "neighbours.png", "confusion.png",
}  # fmt: skip
OF_IMAGES = {"panel.png", "maps.png", "saliency.png", "neighbours.png"}


@pytest.fixture
def workspace(evaluated_run: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(evaluated_run, tmp_path / "workspace"))
    recipe = load_recipe("demo", ["train.epochs=2", "train.global_batch=4"])
    (root / "runs" / "r" / "run.json").write_text(recipe.model_dump_json())
    return root


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    (folder / "noise.jpg").write_bytes(encode_jpeg(noise, 90))
    (folder / "note.txt").write_bytes(b"hello")
    return folder


def figures(model: object, *images: object, workspace: Path, **options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "layer": None,
        "among": None,
        "output": str(workspace.parent / "out"),
        **options,
    }
    return draw_figures(
        str(model),
        [str(image) for image in images],
        workspace=str(workspace),
        tracking_uri=None,
        stream=io.StringIO(),
        **settings,
    )


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_run_is_drawn_whole_and_a_second_time_the_same(workspace: Path) -> None:
    output = workspace.parent / "out"
    output.mkdir()
    (output / "note.txt").write_text("mine")
    (output / "film.png").write_text("another network's")
    result = CliRunner().invoke(
        app,
        ["figures", "r", "--output", str(output), "--workspace", str(workspace), "--json"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    fields = json.loads(result.stdout)
    assert set(fields["pictures"]) == ALL
    assert (fields["left_out"], fields["rejected"]) == ({}, [])
    assert (fields["global_step"], fields["output"]) == (0, str(output))
    assert fields["model"].endswith("/checkpoints/step-00000000-a0001")
    drawn = digests(output)
    assert set(drawn) == ALL | {"note.txt"}
    for name in ALL:
        with Image.open(output / name) as image:
            image.verify()
    assert pipelines.figures("r", output=str(output), workspace=str(workspace)) == fields
    assert digests(output) == drawn


def test_what_is_not_at_hand_is_left_out_with_the_reason(workspace: Path) -> None:
    checkpoint = next(workspace.glob("runs/r/checkpoints/*"))
    shutil.rmtree(workspace / "evaluations")
    (workspace / "runs" / "r" / "run.json").unlink()
    fields = figures(checkpoint, workspace=workspace)
    assert set(fields["pictures"]) == {"filters.png"} | OF_IMAGES
    assert {name: why.split(" of ")[0] for name, why in fields["left_out"].items()} == {
        "film.png": "no training",
        "curves.png": "no training",
        "confusion.png": "no evaluation",
    }


def test_a_training_that_has_just_begun_has_neither_film_nor_curves(workspace: Path) -> None:
    run = workspace / "runs" / "r"
    (run / "finished.json").unlink()
    for path in [*run.glob("filters/step-0000001*"), *run.glob("filters/step-00000005*")]:
        path.unlink()
    shutil.rmtree(run / "journal")
    left_out = figures("r", workspace=workspace)["left_out"]
    assert left_out == {
        "film.png": f"{run} has kept the filters of 1 moment",
        "curves.png": f"{run} has neither loss nor learning rate yet",
    }


def test_named_images_are_shown_and_what_is_none_is_listed(workspace: Path, pictures: Path) -> None:
    noise = str(pictures / "noise.jpg")
    fields = figures("r", pictures, noise, workspace=workspace, layer="conv5")
    assert fields["images"] == [noise, noise]
    assert fields["rejected"] == [{"path": f"{pictures}/note.txt", "reason": "not an image"}]
    assert set(fields["pictures"]) == ALL
    output = str(workspace.parent / "out")
    alone = pipelines.figures("r", noise, output=output, workspace=str(workspace))
    assert alone["images"] == [noise]


def test_where_nothing_is_at_hand_its_filters_are_drawn_and_images_asked_for(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that was registered elsewhere; its registry is not what is tested here."""
    monkeypatch.setattr(
        "pipelines.inference.drawing.find_related", lambda *_: Related(None, None, None)
    )
    fields = figures("r", workspace=workspace)
    assert (fields["pictures"], fields["images"]) == (["filters.png"], [])
    assert {fields["left_out"][name] for name in sorted(OF_IMAGES)} == {
        "no validation images of the dataset it was trained on were found in the workspace:"
        " name some"
    }
    with pytest.raises(RecipeError, match="no layer 'conv9'"):
        figures("r", workspace=workspace, layer="conv9")


def test_neighbours_are_looked_for_among_what_is_named(
    workspace: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for others in ("_of_network", "_of_images", "_confusion"):
        monkeypatch.setattr(f"pipelines.inference.drawing.{others}", lambda *_: {})
    out = workspace.parent / "out"
    by_split = figures("r", workspace=workspace)
    first = (out / "neighbours.png").read_bytes()
    by_folder = figures("r", workspace=workspace, among=str(pictures))
    second = (out / "neighbours.png").read_bytes()
    assert by_split["pictures"] == by_folder["pictures"] == ["neighbours.png"]
    assert by_folder["rejected"] == [{"path": f"{pictures}/note.txt", "reason": "not an image"}]
    figures("r", workspace=workspace, among=str(workspace / "datasets" / "d"))
    third = (out / "neighbours.png").read_bytes()
    assert len({first, second, third}) == 3
    features = str(workspace.parent / "features.parquet")
    pipelines.features(
        "r", str(workspace / "datasets" / "d"), output=features, split="train",
        workspace=str(workspace),
    )  # fmt: skip
    figures("r", workspace=workspace, among=features)
    # The same images; what they are called is not known of features.
    assert (out / "neighbours.png").read_bytes() not in (first, second, third)


def test_an_image_is_not_its_own_neighbour(workspace: Path, pictures: Path) -> None:
    noise = str(pictures / "noise.jpg")
    fields = figures("r", noise, workspace=workspace, among=str(pictures))
    assert fields["left_out"] == {"neighbours.png": f"{pictures} has no other image"}


def test_an_image_of_a_dataset_is_not_its_own_neighbour(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor among features of the dataset, nor in a copy of it."""
    drawn: list[Any] = []

    def note(rows: Any, *_: object) -> bytes:
        drawn.append([[tile.picture.tobytes() for tile in row] for row in rows])
        return b"picture"

    monkeypatch.setattr("pipelines.inference.shown_neighbours.draw_neighbours", note)
    dataset, features = workspace / "datasets" / "d", str(workspace.parent / "val.parquet")
    pipelines.features("r", str(dataset), output=features, workspace=str(workspace))
    figures("r", workspace=workspace, among=features)
    copy = workspace.parent / "copy"
    shutil.copytree(dataset, copy)
    figures("r", copy, workspace=workspace)
    assert len(drawn) == 2
    assert all(row[0] not in row[1:] for rows in drawn for row in rows)


def test_features_of_another_model_or_nothing_to_look_through_is_refused(
    workspace: Path, pictures: Path
) -> None:
    with pytest.raises(InputRejected, match="no file or folder gone"):
        figures("no model", workspace=workspace, among="gone")
    (pictures / "noise.jpg").unlink()
    with pytest.raises(InputRejected, match=r"note\.txt is no image"):
        figures("r", workspace=workspace, among=str(pictures))
    assert not (workspace.parent / "out").exists()


def test_a_wrong_layer_is_named_and_nothing_is_written(workspace: Path) -> None:
    with pytest.raises(RecipeError, match="no layer 'conv9'") as caught:
        figures("r", workspace=workspace, layer="conv9")
    assert "conv2" in caught.value.remedy
    assert not (workspace.parent / "out").exists()


def test_an_output_that_cannot_be_written_is_refused_before_all_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RecipeError, match="is a file"):
        figures("no model", workspace=tmp_path, output=str(tmp_path / "file"))
    with pytest.raises(StoreError):
        figures("no model", workspace=tmp_path, output=str(tmp_path / "file" / "out"))


def test_a_missing_model_or_image_is_named(workspace: Path, pictures: Path) -> None:
    with pytest.raises(DataError, match="'other' is no training of the workspace"):
        figures("other", workspace=workspace)
    with pytest.raises(InputRejected, match="no file or folder gone"):
        figures("r", "gone.jpg", workspace=workspace)
    with pytest.raises(InputRejected, match=r"note\.txt is no image: "):
        figures("r", pictures / "note.txt", workspace=workspace)
    assert not (workspace.parent / "out").exists()


def test_an_interrupt_says_what_is_left(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.inference.drawing.draw_figures", interrupted)
    result = CliRunner().invoke(app, ["figures", "r", "--output", str(workspace)])
    assert "pictures that were written are whole" in str(result.exception)
