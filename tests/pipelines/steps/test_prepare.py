"""What the step says; what it makes is tested in tests/preprocessing."""

from pathlib import Path

import pytest
from jpeg_archives import NO_IMAGE, make_jpeg
from typer.testing import CliRunner

import pipelines
from infra.store import FolderStore
from pipelines.cli import app
from preprocessing.errors import TooManyRejects
from preprocessing.prepare import VERSION, dataset_folder, dataset_key
from preprocessing.sources.source import read_index

DRAWN = [
    "dataset.drawn.num_classes=2",
    "dataset.drawn.train_per_class=4",
    "dataset.drawn.val_per_class=2",
    "prepare.stored_px=16",
    "train.augment.crop_px=12",
]
SMALL = ["prepare.rows_per_group=2", "prepare.rows_per_shard=4", "prepare.stored_px=16"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_dataset_of_an_earlier_version_is_told_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = pipelines.load_recipe("demo", DRAWN)
    workspace = FolderStore(tmp_path)
    index = read_index(recipe.dataset, recipe.prepare, workspace)
    key = dataset_key(index, recipe.prepare, VERSION - 1)
    folder = dataset_folder(recipe.dataset.name, key)
    workspace.child(folder).write("manifest.json", b"{}")
    told = []
    for _ in range(2):
        made = pipelines.run(recipe, until="prepare", workspace=str(tmp_path))
        told.append(capsys.readouterr().err.count(f"prepare: {folder} is of the same images"))
    assert told == [1, 0]
    assert not made["uri"].endswith(folder)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_refused_build_shows_all_that_it_could_not_use(tmp_path: Path) -> None:
    for i in range(16):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(NO_IMAGE if i < 12 else make_jpeg(i))
    words = ["demo", "--from-folder", str(tmp_path / "images"), "--workspace", str(tmp_path / "w")]
    words += [w for one in [*SMALL, "train.augment.crop_px=12"] for w in ("--set", one)]
    refused = CliRunner().invoke(app, ["prepare", *words])
    assert isinstance(refused.exception, TooManyRejects)
    assert "_build/rejects.parquet" in refused.exception.problem
    lines = refused.stderr.splitlines()
    (at,) = (i for i, line in enumerate(lines) if "prepare: nothing is committed" in line)
    assert {line.split()[2] for line in lines[at + 1 : at + 13]} == {
        f"{'ab'[i % 2]}/{i}.jpg" for i in range(12)
    }
    made = CliRunner().invoke(app, ["prepare", *words, "--set", "prepare.max_rejects=12"])
    assert made.exit_code == 0
    assert "4 images in" in made.stderr
