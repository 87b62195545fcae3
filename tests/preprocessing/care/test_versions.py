from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from infra.errors import StoreError
from infra.store import MemoryStore
from preprocessing.building import render
from preprocessing.building.plan import PlannedShard
from preprocessing.care.versions import versions_text, warn_of_other_versions

HERE = {"pillow": "13.0.0", "pyarrow": "25.0.1"}


@pytest.mark.parametrize(
    ("made_with", "text"),
    [
        (HERE, "the libraries have the versions it was made with"),
        ({**HERE, "pillow": "12.1.0"}, "it was made with pillow 12.1.0, here 13.0.0"),
        ({"pillow": "13.0.0"}, "it was made with pyarrow unknown, here 25.0.1"),
        (
            {"libjpeg": "9", "pillow": "12.1.0", "pyarrow": "25.0.1"},
            "it was made with libjpeg 9, here none; pillow 12.1.0, here 13.0.0",
        ),
    ],
)
def test_the_libraries_that_differ_are_named(made_with: dict[str, str], text: str) -> None:
    assert versions_text(made_with, HERE) == text


Pixels = npt.NDArray[np.uint8]
encode, square = render.encode_jpeg, render.to_square


def encode_otherwise(pixels: Pixels, *_: Any) -> bytes:
    """As another libjpeg might."""
    return encode(pixels, 50)


def square_otherwise(*arguments: Any) -> Pixels:
    """As another Pillow might."""
    return square(*arguments) ^ 1


@pytest.fixture
def built(build: Callable[..., Any]) -> Any:
    return build(MemoryStore(), MemoryStore(), num_train=6)


def warned(built: Any, caplog: pytest.LogCaptureFixture, **made_with: str) -> str:
    def plan() -> tuple[PlannedShard, ...]:
        return built.plan

    manifest = built.manifest
    manifest = manifest.model_copy(update={"made_with": {**manifest.made_with, **made_with}})
    caplog.clear()
    warn_of_other_versions(built.job, manifest, plan)
    return caplog.text


def test_by_the_same_versions_nothing_is_said_or_rendered(
    built: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = [info.key for info in built.job.target.list()]
    assert warned(built, caplog) == ""
    assert [info.key for info in built.job.target.list()] == before


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("encode_jpeg", encode, "rendered now, its bytes agree"),
        ("encode_jpeg", encode_otherwise, "bytes differ, pixels agree"),
        ("to_square", square_otherwise, "bytes differ, pixels differ too"),
    ],
)
def test_by_others_one_shard_tells_what_still_agrees(
    built: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Any,
    said: str,
) -> None:
    whole = {info.key: built.job.target.read(info.key) for info in built.job.target.list()}
    monkeypatch.setattr(render, name, change)
    text = warned(built, caplog, pillow="1.0")
    smallest = min(built.plan, key=lambda planned: len(planned.members))
    assert f"of {smallest.path}, rendered now, " in text
    assert said in text
    assert "pillow 1.0, here" in text
    # Once for these versions: it is remembered, and nothing else is written.
    monkeypatch.setattr("preprocessing.care.versions.render_shard", None)
    assert said in warned(built, caplog, pillow="1.0")
    now = {info.key: built.job.target.read(info.key) for info in built.job.target.list()}
    assert {key for key in now if now[key] != whole.get(key)} == now.keys() - whole.keys()
    assert [key.partition("-")[0] for key in now.keys() - whole.keys()] == ["_build/compared"]


def test_what_came_of_it_is_said_where_it_cannot_be_noted(
    built: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shared workspace the dataset's folder may be another's."""

    def refuse(key: str, body: bytes) -> None:
        raise StoreError(f"cannot write {key}: Permission denied", remedy="none")

    monkeypatch.setattr(built.job.target, "write", refuse)
    text = warned(built, caplog, pillow="1.0")
    assert "rendered now, its bytes agree" in text
    assert "it will be made again: cannot write _build/compared-" in text


def test_where_it_cannot_be_told_the_dataset_is_used_all_the_same(
    built: Any, caplog: pytest.LogCaptureFixture
) -> None:
    built.job.source.delete("a.tar")
    assert "may have other bytes (" in warned(built, caplog, pillow="1.0")
