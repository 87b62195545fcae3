import io
import json
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pipelines
from infra.errors import StoreError, TrackingError
from infra.store import FolderStore, ObjectStore
from infra.tracking.place import place_for
from pipelines import command
from pipelines.command import _noted
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.timeline import (
    CommandNote,
    StepTime,
    Timeline,
    command_text,
    how_it_ended,
    library_versions,
    read_command_notes,
    with_last_signs,
    write_note,
)
from pipelines.workflow import Outcome

ARGV = ["/home/me/.venv/bin/alexnet", "run", "demo"]


@pytest.fixture
def run(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "run")


def timeline(**states: Any) -> Timeline:
    made = Timeline(command_text(ARGV))
    for name, state in states.items():
        with made.entry(name) as entry:
            entry.state = state
    return made


def test_steps_are_timed_in_order_and_noted_with_versions(run: FolderStore) -> None:
    write_note(run, timeline(prepare="holds", train="ran").note("done"))
    (note,) = read_command_notes(run)
    assert (note.command, note.ended) == ("alexnet run demo", "done")
    assert [(step.name, step.state) for step in note.steps] == [
        ("prepare", "holds"),
        ("train", "ran"),
    ]
    assert all(0 <= step.seconds < 1 for step in note.steps)
    assert all(step.started_at >= note.started_at for step in note.steps)
    assert note.started_at.endswith("+00:00")
    assert note.versions == library_versions()
    assert note.versions["python"] == sys.version.split()[0]
    assert {"torch", "ray", "mlflow"} <= note.versions.keys()


def test_a_step_that_raises_is_noted_as_failed() -> None:
    made = Timeline(command_text(ARGV))
    with pytest.raises(ZeroDivisionError), made.entry("train"):
        _ = 1 / 0
    assert made.note("x").steps[0].state == "failed"


def test_a_step_at_work_is_not_in_the_note() -> None:
    made = timeline(train="ran")
    with made.entry("report"):
        assert [step.name for step in made.note("done").steps] == ["train"]


def test_notes_of_many_commands_are_read_oldest_first(run: FolderStore) -> None:
    for second in (7, 3, 11):
        made = timeline(train="ran")
        made.started_at = f"2026-01-31T12:00:{second:02}+00:00"
        write_note(run, made.note(str(second)))
    assert [note.ended for note in read_command_notes(run)] == ["3", "7", "11"]
    (first, *_) = [info.key for info in run.list()]
    assert first.startswith("commands/20260131T120003Z-")


def test_a_note_of_another_version_hides_none(run: FolderStore) -> None:
    run.write("commands/20260131T120000Z-00000000.json", b'{"schema_version": 2}')
    write_note(run, timeline(train="ran").note("done"))
    assert [note.ended for note in read_command_notes(run)] == ["done"]


def test_what_made_nothing_leaves_no_note(run: FolderStore) -> None:
    write_note(run, timeline(prepare="holds", train="holds").note("done"))
    write_note(run, timeline(prepare="holds", train="failed").note("RecipeError: x"))
    assert list(run.list()) == []
    run.create("run.json", b"{}")  # it had begun
    write_note(run, timeline(prepare="holds", train="failed").note("interrupted"))
    assert [note.ended for note in read_command_notes(run)] == ["interrupted"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["/a b/alexnet", "train", "demo"], "alexnet train demo"),
        (["alexnet", "run", "my recipe.yaml"], "alexnet run 'my recipe.yaml'"),
        (
            ["alexnet", "run", "x", "--tracking-uri", "https://me:s3cr3t@mlflow.example.org/a?k=s"],
            "alexnet run x --tracking-uri https://mlflow.example.org/a",
        ),
        (
            ["alexnet", "--set", "train.sample_log=s3://key:s3cr3t@bucket/log"],
            "alexnet --set train.sample_log=s3://bucket/log",
        ),
        ([], ""),
    ],
)
def test_a_command_is_told_without_its_secrets(words: Sequence[str], text: str) -> None:
    assert command_text(words) == text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "done"),
        (KeyboardInterrupt(), "interrupted"),
        (ValueError("a path, a password"), "ValueError"),
        (
            TrackingError("https://me:s3cr3t@m.org is away", remedy="x"),
            "TrackingError: https://m.org is away",
        ),
    ],
)
def test_how_a_command_ended(error: BaseException | None, words: str) -> None:
    assert how_it_ended(error) == words


class Away(FolderStore):
    """A place that is away."""

    def write(self, key: str, body: bytes) -> None:
        raise StoreError("away", remedy="wait")

    def with_deadline(self, deadline_s: float) -> ObjectStore:
        return self


def test_a_note_that_cannot_be_written_is_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        write_note(Away(tmp_path), timeline(train="ran").note("done"))
    assert [record.message for record in caplog.records] == ["command_not_noted away"]


@pytest.fixture
def context(workspace: FolderStore) -> Context:
    place = place_for(workspace, None)
    timeline = Timeline(command_text(ARGV))
    return Context(load_recipe("demo"), workspace, place, io.StringIO(), timeline=timeline)


@pytest.mark.parametrize(
    ("error", "ended"),
    [(None, "done"), (KeyboardInterrupt(), "interrupted"), (ValueError("a bug"), "ValueError")],
)
def test_a_command_leaves_its_note_however_it_ends(
    context: Context,
    run: FolderStore,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    ended: str,
) -> None:
    run.create("run.json", b"{}")
    monkeypatch.setattr(command, "run_folder", lambda *_: run)

    def work() -> None:
        with _noted(context, []), context.timeline.entry("train") as entry:
            if error is not None:
                raise error
            entry.state = "ran"

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    (note,) = read_command_notes(run)
    assert note.ended == ended


def test_a_killed_command_leaves_the_note_of_its_beginning(
    context: Context, run: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "run_folder", lambda *_: run)
    with _noted(context, []) as note_begin:
        with context.timeline.entry("prepare") as entry:
            entry.state = "holds"
        with context.timeline.entry("train") as entry:
            note_begin()
            (killed,) = read_command_notes(run)
            entry.state = "ran"
    assert (killed.command, killed.ended) == ("alexnet run demo", "")
    assert [(step.name, step.state) for step in killed.steps] == [
        ("prepare", "holds"),
        ("train", "begun"),
    ]
    # One that goes on to its end says so in the same place.
    (note,) = read_command_notes(run)
    assert (note.ended, [step.state for step in note.steps]) == ("done", ["holds", "ran"])
    assert read_command_notes(run, but=context.timeline.key) == []


def test_one_that_was_refused_as_it_began_leaves_no_note(
    context: Context, run: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room on the cluster, MLflow away: there is no run yet."""
    monkeypatch.setattr(command, "run_folder", lambda *_: run)

    def work() -> None:
        with _noted(context, []) as note_begin, context.timeline.entry("train"):
            note_begin()
            raise TrackingError("away", remedy="wait")

    with pytest.raises(TrackingError):
        work()
    assert list(run.list()) == []


def killed_at(second: int) -> CommandNote:
    started_at = f"1970-01-01T00:00:{second:02}+00:00"
    steps = [
        StepTime(name="prepare", state="ran", started_at=started_at, seconds=1.5),
        StepTime(name="train", state="begun", started_at=started_at, seconds=0),
    ]
    return CommandNote(
        command="c", started_at=started_at, ended="", steps=tuple(steps), versions={}
    )


@pytest.mark.parametrize(
    ("signs_s", "lasted"),
    [
        ([], [0, 0]),
        ([5.0, 11.5, 19.75, 31.0], [9.75, 11]),
        ([15.0], [5, 0]),
        ([20.0], [0, 0]),
        ([5.0], [0, 0]),
    ],
)
def test_a_killed_step_lasted_until_the_last_sign_before_the_next_command(
    signs_s: list[float], lasted: list[float]
) -> None:
    timed = with_last_signs([killed_at(10), killed_at(20)], signs_s)
    assert [note.steps[1].seconds for note in timed] == lasted
    assert [note.steps[0].seconds for note in timed] == [1.5, 1.5]


def test_of_a_call_from_python_the_programs_own_words_are_not_kept(
    run: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(steps: Sequence[Context], begin: object) -> list[Outcome]:
        with steps[0].timeline.entry("train") as entry:
            entry.state = "ran"
        return []

    monkeypatch.setattr(sys, "argv", ["train.py", "--api-key", "s3cr3t"])
    monkeypatch.setattr(command, "build_steps", lambda context, **_: [context])
    monkeypatch.setattr(command, "run_steps", work)
    monkeypatch.setattr(command, "run_folder", lambda *_: run)
    pipelines.run("demo", workspace=tmp_path / "w")
    (note,) = read_command_notes(run)
    assert note.command == "pipelines.run('demo')"


def test_before_the_dataset_is_known_there_is_no_note(context: Context) -> None:
    steps: Any = [SimpleNamespace(is_done=False)]
    with pytest.raises(KeyboardInterrupt), _noted(context, steps):
        raise KeyboardInterrupt
    assert list(context.workspace.list("runs/")) == []


def test_many_commands_at_once_each_leave_theirs(run: FolderStore) -> None:
    note = timeline(train="ran").note("done")
    threads = [threading.Thread(target=write_note, args=(run, note)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_command_notes(run)) == 8
    for info in run.list():
        assert json.loads(run.read(info.key))["schema_version"] == 1
