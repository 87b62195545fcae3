import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from small_build import job_of

from infra.errors import ServiceError
from infra.store import MemoryStore
from preprocessing.building.execute import render_in_task
from preprocessing.building.versions import differing_versions, encoder_versions
from preprocessing.care.repair import Repair, WantedShard, repair_shard

HERE = {"pillow": "13.0.0", "pyarrow": "25.0.1"}
OTHER = {**encoder_versions(), "pillow": "1.0"}


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (HERE, ""),
        ({**HERE, "pillow": "12.1.0"}, "pillow 12.1.0, here 13.0.0"),
        ({"pillow": "13.0.0"}, "pyarrow unknown, here 25.0.1"),
        ({"libjpeg": "9", **HERE}, "libjpeg 9, here none"),
    ],
)
def test_the_libraries_that_differ_are_named(expected: dict[str, str], text: str) -> None:
    assert differing_versions(expected, HERE) == text


def test_they_are_read_from_disk_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = encoder_versions()
    monkeypatch.setattr(sys, "path", [])
    assert encoder_versions() == before


def test_a_node_with_other_libraries_than_the_command_renders_nothing() -> None:
    job, plan = job_of(target := MemoryStore(), MemoryStore())
    with pytest.raises(ServiceError, match=r"node \S+ would .* pillow 1\.0, here ") as caught:
        render_in_task(replace(job, versions=OTHER), plan[0])
    assert "on every node" in caught.value.remedy
    assert list(target.list()) == []


def test_nor_does_it_repair(build: Callable[..., Any]) -> None:
    built = build(store := MemoryStore(), MemoryStore())
    before = {info.key: info.version for info in store.list()}
    aside = Repair(replace(built.job, target=store.child("aside"), versions=OTHER), store)
    wanted = WantedShard(built.plan[0], built.manifest.train.shards[0], replaces=True)
    with pytest.raises(ServiceError, match="pillow"):
        repair_shard(aside, wanted)
    assert {info.key: info.version for info in store.list()} == before


def test_a_dataset_says_the_versions_it_was_built_with(build: Callable[..., Any]) -> None:
    assert build(MemoryStore(), MemoryStore()).manifest.made_with == encoder_versions()
