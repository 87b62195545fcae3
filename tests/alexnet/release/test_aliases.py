"""Who becomes champion, on a registry in memory; what MLflow makes of it is in test_register.py."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from alexnet.release import register as module
from alexnet.release.errors import ChampionMoved, ModelNotServable
from alexnet.release.gate import Verdict
from alexnet.release.register import register
from alexnet.release.registration import Registration
from alexnet.release.registry import CHAMPION, RegisteredVersion
from infra.errors import TrackingError
from infra.lease import LeaseTimings, hold_lease
from infra.store import MemoryStore

ACCEPTED = Verdict(
    verdict="accepted",
    reasons=(),
    champion=None,
    top1=0.5,
    champion_top1=None,
    mcnemar_p=None,
    per_class_regressions=(),
)


class Registry:
    """Versions and aliases, as `ModelRegistry` has them."""

    name = "alexnet"
    tracking_uri = "memory"

    def __init__(self) -> None:
        self.versions: list[RegisteredVersion] = []
        self._numbers = count(1)
        self.pointed_to: dict[str, str] = {}
        self.before_crowning: Callable[[], object] = lambda: None

    def find(self, key: str) -> RegisteredVersion | None:
        return next((made for made in self.versions if made.tags["key"] == key), None)

    def create(self, *, key: str, **_: Any) -> RegisteredVersion:
        version = str(next(self._numbers))
        made = RegisteredVersion(version=version, tags={"key": key}, run_id=None)
        self.versions.append(made)
        return made

    def champion(self) -> RegisteredVersion | None:
        pointed_to = self.pointed_to.get(CHAMPION)
        return next((made for made in self.versions if made.version == pointed_to), None)

    def set_alias(self, alias: str, version: str) -> None:
        if alias == CHAMPION:
            self.before_crowning()
        self.pointed_to[alias] = version

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        pass

    def aliases(self, version: str) -> tuple[str, ...]:
        return tuple(sorted(alias for alias, of in self.pointed_to.items() if of == version))

    def registry_id(self) -> str:
        return "r"


def register_in(
    registry: Any, key: str, turn: AbstractContextManager[object] | None = None
) -> Registration:
    """Register under a verdict that there was no champion."""
    anything: Any = SimpleNamespace(
        trained=None,
        dataset=None,
        manifest=SimpleNamespace(fingerprint="f", classes=SimpleNamespace(sha256="c")),
        evaluation=SimpleNamespace(uri="e"),
        run_key="r",
        run_id="i",
    )
    return register(
        registry,
        anything,
        ACCEPTED,
        key=key,
        expected_champion=None,
        turn=turn or nullcontext(),
    )


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has models logged and tried without a model; gets the ids of those that were deleted."""
    deleted: list[str] = []
    monkeypatch.setattr(module, "log_model", lambda *_, **__: "m-1")
    monkeypatch.setattr(module, "delete_model", lambda model, **_: deleted.append(model))
    monkeypatch.setattr(module, "open_evaluation", lambda _: None)
    monkeypatch.setattr(module, "read_predictions", lambda *_: None)
    monkeypatch.setattr(module, "try_model", lambda *_, **__: None)
    return deleted


@pytest.mark.usefixtures("logged")
def test_of_two_at_the_same_moment_only_one_becomes_champion_without_the_others_judgement() -> None:
    registry, store, timings = Registry(), MemoryStore(), LeaseTimings(poll_s=0.01)
    # Whoever is about to be crowned waits for the other, which must not get so far.
    both = threading.Barrier(2)

    def wait_for_the_other() -> None:
        try:
            both.wait(0.5)
        except threading.BrokenBarrierError:
            return

    def run(key: str) -> str:
        try:
            return register_in(registry, key, hold_lease(store, timings=timings)).version
        except ChampionMoved:
            return "moved"

    registry.before_crowning = wait_for_the_other
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(run, ["one", "two"]))
    assert sorted(outcomes) == sorted([registry.pointed_to[CHAMPION], "moved"])


def test_a_champion_that_comes_while_a_model_is_tried_is_not_replaced(
    logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()

    def another_comes(*_: object, **__: object) -> None:
        registry.pointed_to[CHAMPION] = registry.create(key="another").version

    monkeypatch.setattr(module, "try_model", another_comes)
    with pytest.raises(ChampionMoved, match="champion none of alexnet, which is now 1"):
        register_in(registry, "ours")
    assert registry.pointed_to[CHAMPION] == "1"
    assert logged == []


@pytest.mark.parametrize("away", [False, True])
def test_of_a_model_that_does_not_answer_no_version_is_made(
    logged: list[str], monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    """Nor is it left for the next try to find, unless MLflow is away meanwhile."""

    def fails(*_: object, **__: object) -> None:
        raise ModelNotServable("it answers otherwise", remedy="mend it")

    def refuses(*_: object, **__: object) -> None:
        raise TrackingError("no answer", remedy="wait")

    registry = Registry()
    monkeypatch.setattr(module, "try_model", fails)
    if away:
        monkeypatch.setattr(module, "delete_model", refuses)
    with pytest.raises(ModelNotServable):
        register_in(registry, "ours")
    assert registry.versions == []
    assert logged == ([] if away else ["m-1"])
