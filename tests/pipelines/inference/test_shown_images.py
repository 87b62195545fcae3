"""Which images are chosen, of the validation split of an evaluated run and of files."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet.evaluate.blocks import BlockReader, plan_blocks
from alexnet.evaluate.evaluation import read_predictions
from alexnet.figures.panel import choose_rows
from alexnet.inference.inputs import find_parts
from alexnet.inference.model_probe import ModelProbe
from alexnet.trained import trained_network
from infra.store import FolderStore
from pipelines.inference.shown_images import Chooser, Rejected, Shown
from preprocessing.dataset.labels import make_classes
from preprocessing.dataset.stored import encode_jpeg


@pytest.fixture
def chooser(finished_run: Any) -> Chooser:
    checkpoint = finished_run.run.child(finished_run.training.checkpoint)
    trained = trained_network(checkpoint, finished_run.dataset, finished_run.manifest)
    evaluation = (finished_run.evaluated, finished_run.evaluation)
    return Chooser(ModelProbe(trained), trained.load_classes(), trained.stored_px, evaluation)


def shown_of(found: Iterable[Shown | Rejected]) -> list[Shown]:
    images = list(found)
    assert all(isinstance(image, Shown) for image in images)
    return [image for image in images if isinstance(image, Shown)]


def rows_of(images: list[Shown]) -> list[int]:
    return [int(image.path.rpartition("#")[2]) for image in images]


def stored(finished_run: Any) -> tuple[np.ndarray, np.ndarray]:
    """All validation images and their labels."""
    reader = BlockReader(finished_run.dataset, finished_run.manifest)
    blocks = [reader.read(block) for block in plan_blocks(finished_run.manifest.val)]
    reader.close()
    pixels = np.concatenate([rows.decode() for rows in blocks])
    return pixels, np.concatenate([rows.labels for rows in blocks])


def test_the_first_eight_are_a_reports_panel_and_four_more_follow(
    chooser: Chooser, finished_run: Any
) -> None:
    nobody: Any = None  # the network is not asked again
    chooser = replace(chooser, probe=nobody)
    images = shown_of(chooser.of_dataset(finished_run.dataset, finished_run.manifest))
    table = read_predictions(finished_run.evaluated, finished_run.evaluation)
    labels, right = table["label"].to_numpy(), table["center_rank"].to_numpy() == 0
    assert rows_of(images)[:8] == choose_rows(labels, right)
    assert sorted(rows_of(images)) == choose_rows(labels, right, 12)
    pixels, _ = stored(finished_run)
    for image, row in zip(images, rows_of(images), strict=True):
        np.testing.assert_array_equal(image.pixels, pixels[row])
        assert image.label == labels[row]
        assert image.name == chooser.classes.names[labels[row]]


@pytest.mark.parametrize("what", ["none", "another split's"])
def test_without_its_evaluation_the_network_is_asked_about_the_first_block(
    chooser: Chooser, finished_run: Any, what: str, tmp_path: Path
) -> None:
    other = finished_run.evaluation.model_copy(update={"validation_digest": "0" * 64})
    evaluation = None if what == "none" else (FolderStore(tmp_path / "unread"), other)
    chooser = replace(chooser, evaluation=evaluation)
    images = shown_of(chooser.of_dataset(finished_run.dataset, finished_run.manifest))
    pixels, labels = stored(finished_run)
    right = chooser.probe.probabilities(list(pixels[:64])).argmax(axis=1) == labels[:64]
    assert rows_of(images)[:8] == choose_rows(labels[:64], right)
    assert sorted(rows_of(images)) == choose_rows(labels[:64], right, 12)


def test_classes_of_another_dataset_are_matched_by_their_keys(
    chooser: Chooser, finished_run: Any
) -> None:
    """Three of seven are known to the network, in another order of labels."""
    keys = [entry.wnid for entry in chooser.classes.classes][:3]
    classes = make_classes({"a": "first", **{key: f"own {key}" for key in keys}})
    chooser = replace(chooser, classes=classes, evaluation=None)
    images = shown_of(chooser.of_dataset(finished_run.dataset, finished_run.manifest))
    _, labels = stored(finished_run)
    expected = [int(labels[row]) + 1 if labels[row] < 3 else None for row in rows_of(images)]
    assert [image.label for image in images] == expected
    assert {label is None for label in expected} == {True, False}


def test_an_empty_split_has_no_images(chooser: Chooser, finished_run: Any) -> None:
    split = finished_run.manifest.val.model_copy(update={"shards": ()})
    manifest = finished_run.manifest.model_copy(update={"val": split})
    assert list(chooser.of_dataset(finished_run.dataset, manifest)) == []


def test_files_and_datasets_come_in_the_order_in_which_they_were_named(
    chooser: Chooser, finished_run: Any, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    (tmp_path / "noise.jpg").write_bytes(encode_jpeg(pixels, 90))
    (tmp_path / "note.txt").write_bytes(b"hello")
    names = [str(tmp_path / "noise.jpg"), finished_run.dataset.uri, str(tmp_path / "note.txt")]
    found = list(chooser.named((name, find_parts([name])) for name in names))
    assert [type(image) for image in found] == [*[Shown] * 13, Rejected]
    first = found[0]
    assert isinstance(first, Shown)
    assert (first.path, first.name, first.label) == (names[0], "noise.jpg", None)
    assert first.pixels.shape == (chooser.stored_px, chooser.stored_px, 3)
    assert found[-1] == Rejected(names[-1], "not an image")
