import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from jpeg_archives import ids_of, make_devkit
from typer.testing import CliRunner

from alexnet.evaluate.counts import count_rows
from alexnet.evaluate.evaluation import (
    RECEIPT,
    Accuracy,
    Evaluation,
    accuracy_of,
    open_evaluation,
    read_predictions,
    validation_digest,
)
from alexnet.evaluate.metrics import judge_rows
from alexnet.evaluate.rows import BlockResult
from alexnet.evaluate.tables import PREDICTIONS, predictions_table
from infra.commit import write_object
from infra.errors import DataError, RecipeError
from infra.parquet import parquet_bytes
from infra.store import FolderStore
from pipelines import api
from pipelines.cli import app
from preprocessing.dataset.labels import Classes
from preprocessing.dataset.manifest import MANIFEST, Manifest, Shard, Split
from preprocessing.dataset.stored import encode_jpeg
from preprocessing.errors import ArchiveMissing
from preprocessing.sources.archives import DEVKIT_ARCHIVE
from preprocessing.sources.devkit import GROUND_TRUTH, read_devkit

WORDS = {f"n{number:08}": f"class {number}" for number in range(7)}


def write_dataset(store: FolderStore, classes: Classes, names: Sequence[str]) -> Manifest:
    """A dataset of which only the classes and the members' names are there."""
    count = len(names)
    members = pa.table(
        {
            "split": ["train", *["val"] * count],
            "sample_id": [0, *range(count)],
            "member": ["n00000000_1.JPEG", *names],
        }
    )
    other = write_object(store, "other", b"x")
    shard = Shard(**other.model_dump(), start=0, stop=count, holes=())
    manifest = Manifest(
        name="fixed",
        key="fixed",
        num_classes=len(classes),
        height_px=8,
        width_px=8,
        rows_per_group=4,
        train=Split(shards=(shard.model_copy(update={"stop": 1}),)),
        val=Split(shards=(shard,)),
        classes=write_object(store, "classes.json", classes.to_bytes()),
        statistics=other,
        members=write_object(store, "members.parquet", parquet_bytes(members)),
        rejects=other,
        num_rejects=0,
        made_with={},
    )
    store.create(MANIFEST, manifest.to_bytes())
    return manifest


def write_evaluation(workspace: Path, manifest: Manifest, labels: Sequence[int]) -> Accuracy:
    """A network that often is right; `labels` are in the order of the sample ids."""
    true = torch.tensor(labels)
    logits = torch.randn(len(labels), manifest.num_classes, generator=torch.manual_seed(1))
    logits[torch.arange(len(labels)), true] += 1.0
    rows = judge_rows(torch.log_softmax(logits, dim=1), true)
    accuracy = accuracy_of(count_rows(true.numpy(), rows, manifest.num_classes))
    result = BlockResult(np.arange(len(labels)), true.numpy(), {"center": rows})
    store = FolderStore(workspace / "evaluations" / "e")
    evaluation = Evaluation(
        key="e",
        dataset_fingerprint=manifest.fingerprint,
        validation_digest=validation_digest(manifest),
        classes_digest=manifest.classes.sha256,
        checkpoint_digest="3" * 64,
        step=9,
        count=len(labels),
        center=accuracy,
        ten_crop=None,
        per_class=write_object(store, "per_class.parquet", b"x"),
        confusion=write_object(store, "confusion.parquet", b"x"),
        predictions=write_object(store, PREDICTIONS, parquet_bytes(predictions_table(result))),
    )
    store.create(RECEIPT, evaluation.to_bytes())
    return accuracy


def evaluated(workspace: Path, devkit: Path) -> Accuracy:
    """An evaluation on the devkit's validation images, stored in another order than theirs."""
    found = read_devkit(FolderStore(devkit))
    count = len(found.val_labels)
    order = np.random.default_rng(0).permutation(count)
    names = [f"ILSVRC2012_val_{number + 1:08}.JPEG" for number in order]
    manifest = write_dataset(FolderStore(workspace / "datasets" / "d"), found.classes, names)
    return write_evaluation(workspace, manifest, found.val_labels[order].tolist())


def truth_of(devkit: Path, folder: Path) -> Path:
    with tarfile.open(
        fileobj=io.BytesIO(gzip.decompress((devkit / DEVKIT_ARCHIVE).read_bytes()))
    ) as tar:
        (name,) = [name for name in tar.getnames() if name.endswith(GROUND_TRUTH)]
        member = tar.extractfile(name)
        assert member is not None
        (folder / "truth.txt").write_bytes(member.read())
    return folder / "truth.txt"


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    folder = tmp_path / "devkit"
    folder.mkdir()
    val_ids = np.random.default_rng(2).integers(1, 8, 40).tolist()
    (folder / DEVKIT_ARCHIVE).write_bytes(make_devkit(WORDS, val_ids))
    return folder


def round_trip(devkit: Path, tmp_path: Path) -> None:
    """Errors of the written file, held against the devkit's truth, are the evaluation's own."""
    workspace = tmp_path / "workspace"
    accuracy = evaluated(workspace, devkit)
    output, truth = tmp_path / "answers.txt", truth_of(devkit, tmp_path)
    place = {"devkit": str(devkit / DEVKIT_ARCHIVE), "workspace": str(workspace)}
    evaluation = str(workspace / "evaluations" / "e")
    found = api.submission(evaluation, output=str(output), **place)
    lines = [list(map(int, line.split())) for line in output.read_text().splitlines()]
    assert found == {"file": str(output), "count": len(lines), "errors": None}
    true_ids = [int(line) for line in truth.read_text().split()]
    assert all(len(set(line)) == 5 for line in lines)
    right1 = sum(line[0] == true for line, true in zip(lines, true_ids, strict=True))
    right5 = sum(true in line for line, true in zip(lines, true_ids, strict=True))
    assert right1 == accuracy.correct1
    assert right5 == accuracy.correct5
    checked = api.submission(str(output), truth=str(truth))
    assert checked["errors"]["wrong1"] == len(lines) - right1
    assert checked["errors"]["wrong5"] == len(lines) - right5


def test_an_evaluations_answers_hold_against_the_devkits_truth(
    devkit: Path, tmp_path: Path
) -> None:
    round_trip(devkit, tmp_path)


def test_the_same_with_ids_of_imagenet(shared_data: Path, tmp_path: Path) -> None:
    """The devkit of real photographs, whose ids follow neither the names nor our labels."""
    round_trip(shared_data / "ilsvrc-mini", tmp_path)


def test_an_ensembles_file_is_answered_with_as_its_members_are(
    devkit: Path, tmp_path: Path
) -> None:
    """A mean of one network with itself has its probabilities, and so its answers."""
    workspace = tmp_path / "workspace"
    evaluated(workspace, devkit)
    first = workspace / "evaluations" / "e"
    shutil.copytree(first, workspace / "evaluations" / "f")
    mean = tmp_path / "mean.parquet"
    members = [str(first), str(first.with_name("f"))]
    api.ensemble(members, output=str(mean), workspace=str(workspace))
    place = {"devkit": str(devkit), "workspace": str(workspace)}
    written = []
    for number, what in enumerate([str(first), str(mean)]):
        written.append(tmp_path / f"{number}.txt")
        api.submission(what, output=str(written[-1]), **place)
    assert written[0].read_text() == written[1].read_text()


def test_a_file_that_is_no_ensembles_is_refused(devkit: Path, tmp_path: Path) -> None:
    workspace, output = tmp_path / "workspace", str(tmp_path / "a.txt")
    evaluated(workspace, devkit)
    first = workspace / "evaluations" / "e"
    shutil.copytree(first, workspace / "evaluations" / "f")
    mean = tmp_path / "mean.parquet"
    members = [str(first), str(first.with_name("f"))]
    api.ensemble(members, output=str(mean), workspace=str(workspace))
    place: dict[str, Any] = {"devkit": str(devkit), "output": output}
    with pytest.raises(DataError, match="has no view ten_crop"):
        api.submission(str(mean), view="ten_crop", workspace=str(workspace), **place)
    with pytest.raises(DataError, match=r"is of dataset .* which is not in"):
        api.submission(str(mean), workspace=str(tmp_path / "other"), **place)
    with pytest.raises(DataError, match="is no file of an ensemble"):
        api.submission(str(first / PREDICTIONS), workspace=str(workspace), **place)
    mean.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="is no file of an ensemble"):
        api.submission(str(mean), workspace=str(workspace), **place)
    with pytest.raises(DataError, match="there is no file gone"):
        api.submission("gone.parquet", workspace=str(workspace), **place)
    assert not Path(output).exists()


def test_an_evaluation_that_kept_no_five_is_to_be_made_again(devkit: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    evaluated(workspace, devkit)
    store = FolderStore(workspace / "evaluations" / "e")
    evaluation = open_evaluation(store)
    older = read_predictions(store, evaluation).drop_columns(["center_top5"])
    predictions = write_object(store, PREDICTIONS, parquet_bytes(older))
    (workspace / "evaluations" / "e" / RECEIPT).unlink()
    store.create(RECEIPT, evaluation.model_copy(update={"predictions": predictions}).to_bytes())
    with pytest.raises(DataError, match="not the five best classes") as caught:
        api.submission(
            store.uri,
            output=str(tmp_path / "answers.txt"),
            devkit=str(devkit),
            workspace=str(workspace),
        )
    assert "evaluate again" in caught.value.remedy


@pytest.fixture
def model(tiny_training: Any, tmp_path: Path) -> str:
    """A checkpoint and its dataset, in a workspace."""
    checkpoint = tmp_path / "workspace" / "runs" / "r" / "checkpoints" / "c"
    shutil.copytree(tiny_training.checkpoint.uri, checkpoint)
    shutil.copytree(tiny_training.store.uri, tmp_path / "workspace" / "datasets" / "tiny")
    return str(checkpoint)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "test"
    folder.mkdir()
    for number in (1, 2, 3):
        noise = np.random.default_rng(number).integers(0, 256, (60, 50, 3), dtype=np.uint8)
        (folder / f"ILSVRC2012_test_{number:08}.JPEG").write_bytes(encode_jpeg(noise, 90))
    return folder


def submit(model: str, pictures: Path, devkit: Path, output: Path, **options: Any) -> None:
    api.submission(
        model,
        [str(pictures)],
        devkit=str(devkit),
        output=str(output),
        workspace=str(output.parent / "workspace"),
        **options,
    )


def test_a_models_answers_for_a_folder_of_test_images(
    model: str, pictures: Path, devkit: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.txt"
    submit(model, pictures, devkit, output)
    table = api.predict(model, str(pictures), workspace=str(tmp_path / "workspace"))
    ids = ids_of(WORDS)
    expected = [[ids[wnid] for wnid in top] for top in table["top5_wnids"].to_pylist()]
    assert output.read_text().splitlines() == [" ".join(map(str, line)) for line in expected]


def test_a_missing_or_damaged_test_image_leaves_no_file(
    model: str, pictures: Path, devkit: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.txt"
    second = pictures / "ILSVRC2012_test_00000002.JPEG"
    body = second.read_bytes()
    second.write_bytes(body[:100])
    with pytest.raises(DataError, match=r"00000002\.JPEG is no image \("):
        submit(model, pictures, devkit, output)
    second.unlink()
    with pytest.raises(DataError, match="image 2 should be ILSVRC2012_test_00000002"):
        submit(model, pictures, devkit, output)
    assert not output.exists()


def test_what_does_not_fit_its_truth_is_not_written(
    model: str, pictures: Path, devkit: Path, tmp_path: Path
) -> None:
    truth, output = tmp_path / "truth.txt", tmp_path / "answers.txt"
    truth.write_text("1\n2\n")
    with pytest.raises(DataError, match="3 lines of answers, and a ground truth of 2"):
        submit(model, pictures, devkit, output, truth=str(truth))
    assert not output.exists()


def test_classes_of_other_folders_have_no_ids(model: str, pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    words = {f"n{number:08}": "x" for number in range(100, 110)}
    (other / DEVKIT_ARCHIVE).write_bytes(make_devkit(words, [1]))
    with pytest.raises(DataError, match="7 of the network's 7 classes have no ILSVRC2012_ID"):
        submit(model, pictures, other, tmp_path / "answers.txt")


def test_without_the_devkit_the_ids_are_unknown(
    model: str, pictures: Path, devkit: Path, tmp_path: Path
) -> None:
    output = str(tmp_path / "a.txt")
    with pytest.raises(RecipeError, match="only in the development kit"):
        api.submission(model, [str(pictures)], output=output)
    with pytest.raises(ArchiveMissing, match=DEVKIT_ARCHIVE):
        api.submission(model, [str(pictures)], output=output, devkit=str(pictures))
    with pytest.raises(RecipeError, match="nothing to write"):
        api.submission(model, [str(pictures)])
    with pytest.raises(RecipeError, match="is a model, and no images are named"):
        api.submission("models:/x@champion", output=output, devkit=str(devkit))
    with pytest.raises(RecipeError, match=r"does not end with \.txt"):
        api.submission(model, [str(pictures)], output="answers.csv")


def test_a_truth_that_is_none_is_refused(tmp_path: Path) -> None:
    answers, truth = tmp_path / "answers.txt", tmp_path / "truth.txt"
    answers.write_text("1 2 3 4 5\n")
    for text, told in (("x\n", "no list of ids"), ("0\n", "ids from 1 on"), ("", "ids from 1 on")):
        truth.write_text(text)
        with pytest.raises(DataError, match=told):
            api.submission(str(answers), truth=str(truth))
    with pytest.raises(DataError, match="there is no file"):
        api.submission(str(tmp_path / "none.txt"), truth=str(answers.with_name("gone.txt")))
    with pytest.raises(DataError, match="there is no file"):
        api.submission(str(answers), truth=str(tmp_path))


def test_the_command_prints_both_errors(tmp_path: Path) -> None:
    answers, truth = tmp_path / "answers.txt", tmp_path / "truth.txt"
    answers.write_text("1 2 3 4 5\n" * 4)
    truth.write_text("1\n5\n6\n1\n")
    words = ["submission", str(answers), "--check", str(truth)]
    lines = CliRunner().invoke(app, words).stdout.splitlines()
    assert lines[0] == f"answers      4 lines of five ids in {answers}"
    assert lines[1].startswith("top-1 error  0.5000 (")
    assert lines[2].startswith("top-5 error  0.2500 (")
    assert lines[2].endswith("), 1 of 4")
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert document["errors"]["wrong5"] == 1
