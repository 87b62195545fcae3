"""What the step says; what it makes is tested in tests/preprocessing."""

from pathlib import Path

import pytest

import pipelines
from infra.store import FolderStore
from preprocessing.prepare import VERSION, dataset_folder, dataset_key
from preprocessing.sources.source import read_index

SMALL = [
    "dataset.drawn.num_classes=2",
    "dataset.drawn.train_per_class=4",
    "dataset.drawn.val_per_class=2",
    "prepare.stored_px=16",
    "train.augment.crop_px=12",
]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_dataset_of_an_earlier_version_is_told_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = pipelines.load_recipe("demo", SMALL)
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
