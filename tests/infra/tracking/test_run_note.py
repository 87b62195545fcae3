from typing import Any

import pytest

from infra.errors import ObjectCorrupt, TrackingError
from infra.store import MemoryStore
from infra.tracking.base import REASON_TAG, RunStatus
from infra.tracking.memory import MemoryTracker
from infra.tracking.run_note import end_run, has_ended, open_run, read_notes, run_ids_on


def open_demo(tracker: MemoryTracker, store: MemoryStore) -> str:
    return open_run(tracker, store, run_key="demo-1", run_name="demo", timeout_s=30)


def test_a_training_has_one_run_however_often_it_starts() -> None:
    tracker, store = MemoryTracker(), MemoryStore()
    assert open_demo(tracker, store) == open_demo(tracker, store)
    assert len(tracker.runs) == 1
    assert len(read_notes(store)) == 1


def test_a_kill_between_making_and_noting_leaves_one_run() -> None:
    tracker, store = MemoryTracker(), MemoryStore()
    made = open_demo(tracker, store)
    store.delete("tracking/0001.json")
    assert open_demo(tracker, store) == made
    assert [note.run_id for note in read_notes(store)] == [made]


def test_another_workspace_has_a_run_of_its_own() -> None:
    """It has its own journal too: in one run every point would be drawn twice."""
    tracker, ours, theirs = MemoryTracker(), MemoryStore(), MemoryStore()
    assert open_demo(tracker, ours) != open_demo(tracker, theirs)


def test_a_resumed_run_is_running_again() -> None:
    tracker, store = MemoryTracker(), MemoryStore()
    run_id = open_demo(tracker, store)
    tracker.set_status(run_id, RunStatus.KILLED, "Ctrl-C")
    assert open_demo(tracker, store) == run_id
    assert tracker.status(run_id) is RunStatus.RUNNING


def test_a_deleted_run_means_a_new_one() -> None:
    tracker, store = MemoryTracker(), MemoryStore()
    first = open_demo(tracker, store)
    tracker.runs[first].deleted = True
    second = open_demo(tracker, store)
    assert second != first
    assert open_demo(tracker, store) == second
    assert [note.run_id for note in read_notes(store)] == [first, second]


def test_another_server_means_another_run_and_the_first_is_found_again() -> None:
    store = MemoryStore()
    home, away = MemoryTracker("home"), MemoryTracker("away")
    away.create_run(run_key="other", run_name="takes the first id")
    first, second = open_demo(home, store), open_demo(away, store)
    assert (first, second) == ("run-1", "run-2")
    assert open_demo(home, store) == first
    assert open_demo(away, store) == second
    assert [note.server for note in read_notes(store)] == ["home", "away"]


def test_the_runs_of_one_server_are_told_oldest_first_without_asking_it() -> None:
    store = MemoryStore()
    home, away = MemoryTracker("home"), MemoryTracker("away")
    first = open_demo(home, store)
    open_demo(away, store)
    home.runs[first].deleted = True
    second = open_demo(home, store)
    home.away = True
    assert run_ids_on(store, "home") == [first, second]
    assert run_ids_on(store, "elsewhere") == []


def test_a_new_training_needs_the_server() -> None:
    tracker, store = MemoryTracker(), MemoryStore()
    tracker.away = True
    with pytest.raises(TrackingError):
        open_demo(tracker, store)
    assert read_notes(store) == []


def test_a_resumed_training_goes_on_without_the_server() -> None:
    tracker, store = MemoryTracker(), MemoryStore()
    run_id = open_demo(tracker, store)
    tracker.away = True
    assert open_demo(tracker, store) == run_id


def test_a_note_that_was_cut_is_named() -> None:
    store = MemoryStore()
    store.write("tracking/0001.json", b"")
    with pytest.raises(ObjectCorrupt, match=r"tracking/0001\.json"):
        open_demo(MemoryTracker(), store)


def test_a_run_that_was_made_twice_is_one() -> None:
    """MLflow's client sends a request again whose answer was lost."""

    class LosesAnAnswer(MemoryTracker):
        def create_run(self, **of: Any) -> str:
            super().create_run(**of)
            return super().create_run(**of)

    tracker, store = LosesAnAnswer(), MemoryStore()
    assert open_demo(tracker, store) == "run-1"
    assert [note.run_id for note in read_notes(store)] == ["run-1"]
    assert tracker.status("run-1") is RunStatus.RUNNING
    assert tracker.status("run-2") is RunStatus.KILLED
    assert tracker.runs["run-2"].tags[REASON_TAG] == "made twice: the training's run is run-1"
    store.delete("tracking/0001.json")
    assert open_demo(tracker, store) == "run-1"


def test_that_a_run_is_finished_is_noted_until_it_is_opened_again() -> None:
    tracker, store = MemoryTracker(), MemoryStore()
    run_id = open_demo(tracker, store)
    end_run(tracker, store, run_id, RunStatus.FAILED, "diverged")
    assert not has_ended(store, tracker.server, run_id)
    end_run(tracker, store, run_id, RunStatus.FINISHED)
    assert has_ended(store, tracker.server, run_id)
    assert not has_ended(store, "another", run_id)
    assert [note.run_id for note in read_notes(store)] == [run_id]
    assert open_demo(tracker, store) == run_id
    assert not has_ended(store, tracker.server, run_id)
