import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alexnet.train.attempts import Attempt, claim_attempt, is_current_state, read_attempts
from infra.errors import ObjectCorrupt
from infra.store import FolderStore, MemoryStore


def attempts(*start_steps: int) -> list[Attempt]:
    return [
        Attempt(number=number, start_step=step, world_size=1)
        for number, step in enumerate(start_steps, start=1)
    ]


def test_attempts_are_numbered_from_one_and_remembered() -> None:
    store = MemoryStore()
    assert read_attempts(store) == []
    first = claim_attempt(store, start_step=0, world_size=2)
    second = claim_attempt(store, start_step=40, world_size=3)
    assert (first.number, second.number) == (1, 2)
    assert read_attempts(store) == [first, second]


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_of_many_claimants_no_two_get_one_number(kind: str, tmp_path: Path) -> None:
    store = MemoryStore() if kind == "memory" else FolderStore(tmp_path)
    start = threading.Barrier(8)

    def claim(_: int) -> list[int]:
        start.wait()
        return [claim_attempt(store, start_step=0, world_size=1).number for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        numbers = [number for own in pool.map(claim, range(8)) for number in own]
    assert sorted(numbers) == list(range(1, 33))
    assert [attempt.number for attempt in read_attempts(store)] == list(range(1, 33))


def test_an_attempts_states_count_up_to_the_start_of_any_later_one() -> None:
    history = attempts(0, 100, 60)
    assert is_current_state(step=60, attempt=1, attempts=history)
    assert not is_current_state(step=61, attempt=1, attempts=history)
    assert not is_current_state(step=100, attempt=2, attempts=history)
    assert is_current_state(step=10_000, attempt=3, attempts=history)


def test_an_attempt_that_started_anew_supersedes_all_but_the_beginning() -> None:
    history = attempts(0, 0)
    assert is_current_state(step=0, attempt=1, attempts=history)
    assert not is_current_state(step=1, attempt=1, attempts=history)


def test_an_attempt_of_an_earlier_version_is_read_and_a_gpu_is_noted() -> None:
    store = MemoryStore()
    store.write("attempts/0001.json", b'{"number":1,"start_step":0,"world_size":2}')
    claim_attempt(store, start_step=10, world_size=1, use_gpu=True)
    assert [attempt.use_gpu for attempt in read_attempts(store)] == [False, True]


def test_an_attempt_that_was_cut_is_named() -> None:
    store = MemoryStore()
    store.write("attempts/0001.json", b"")
    with pytest.raises(ObjectCorrupt, match=r"attempts/0001\.json"):
        read_attempts(store)
