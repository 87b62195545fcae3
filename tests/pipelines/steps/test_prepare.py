"""What the step says; what it makes is tested in tests/preprocessing."""

import re
from collections import Counter
from pathlib import Path

import pytest
from jpeg_archives import NO_IMAGE, make_jpeg
from s3_servers import FaultyServer
from typer.testing import CliRunner

import pipelines
from infra.retry import Retried, note_retried
from infra.store import FolderStore
from infra.store.s3 import S3Store
from pipelines.cli import app
from preprocessing.errors import ArchiveMissing, TooManyRejects
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


def test_what_was_tried_again_is_said_at_the_end_of_a_failure_too(
    tmp_path: Path,
    faulty_store: S3Store,
    faulty_s3: FaultyServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    faulty_s3.add_fault(503, method="GET", path="ILSVRC2012_img_train.tar", count=1)
    recipe = pipelines.load_recipe("demo", [f"dataset.archives={faulty_store.uri}"])
    with pytest.raises(ArchiveMissing):
        pipelines.run(recipe, until="prepare", workspace=str(tmp_path))
    said = capsys.readouterr().err
    assert re.search(r"prepare: 1 request was tried again \(1 to look\), \d+ s waited", said)

    def refuse(*_: object) -> None:
        note_retried(Retried(Counter(read=3), 12.3))  # as of a worker's
        raise TooManyRejects("many", remedy="none")

    monkeypatch.setattr("pipelines.steps.prepare.prepare_dataset", refuse)
    monkeypatch.setattr("pipelines.context.Context.start_cluster", lambda _: None)
    with pytest.raises(TooManyRejects):
        pipelines.run(
            pipelines.load_recipe("demo", DRAWN), until="prepare", workspace=str(tmp_path)
        )
    found = capsys.readouterr().err
    assert found.count("prepare: 3 requests were tried again (3 to read), 12 s waited in all") == 1
