"""When which step was done: kept while a command runs, and noted in the run's folder.

    commands/20260131T120000Z-1a2b3c4d.json    one command that made something, however it ended

A training may take many commands on many days; the report shows them all. A note is written when a
step begins to make something and again at the command's end: a killed one leaves it as it began.
"""

import logging
import secrets
import shlex
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from alexnet.train.job import RUN
from infra.commit import Frozen, parse_receipt
from infra.errors import ObjectCorrupt, ProjectError, StoreError
from infra.store import ObjectStore
from infra.tracking.place import without_credentials

log = logging.getLogger(__name__)

FOLDER: Final = "commands/"
FAILED: Final = "failed"
RAN: Final = "ran"
BEGUN: Final = "begun"
NOTING_S: Final = 15.0
"""How long a note may take in a store that is away: nobody waits for it."""
_LIBRARIES: Final = (
    "alexnet-pipeline", "mlflow", "numpy", "pillow", "pyarrow", "ray", "simplejpeg", "torch",
)  # fmt: skip


class StepTime(Frozen):
    """One step of one command."""

    name: str
    state: Literal["holds", "ran", "failed", "begun"]
    """`begun` is at work, or was when its command was killed."""
    started_at: str
    """ISO 8601, UTC."""
    seconds: float


class CommandNote(Frozen):
    """One command: what was typed, what it did when, and how it ended."""

    schema_version: Literal[1] = 1
    command: str
    """As a shell takes it, without credentials; or pipelines.run('RECIPE'), of Python."""
    started_at: str
    ended: str
    """`done`, `interrupted`, or the error; empty of one that is at work, or was killed."""
    steps: tuple[StepTime, ...]
    versions: dict[str, str]
    """Of Python and of the libraries that results may depend on."""


@dataclass
class Entry:
    """A step at work."""

    name: str
    state: Literal["holds", "ran", "failed"] = FAILED
    """Until it is known to have gone well."""
    started_at: str = field(default_factory=lambda: _now())
    seconds: float = 0.0


class Timeline:
    """The steps of the command that runs now.

    Args:
        command: what was typed, as `command_text` gives it; of Python a call, without arguments
            that are another program's own.
    """

    def __init__(self, command: str = "") -> None:
        self._command = command
        self.started_at = _now()
        self._token = secrets.token_hex(4)
        self._ended: list[Entry] = []
        self._at_work: Entry | None = None

    @property
    def key(self) -> str:
        """Where the command's note lies in the run's folder."""
        return _note_key(self.started_at, self._token)

    @contextmanager
    def entry(self, name: str) -> Iterator[Entry]:
        """Time a step; the block sets its state."""
        self._at_work = entry = Entry(name)
        started = time.monotonic()
        try:
            yield entry
        finally:
            entry.seconds = time.monotonic() - started
            self._ended.append(entry)
            self._at_work = None

    def open_note(self) -> CommandNote:
        """Describe the command as it is now, with the step at work."""
        note = self.note("")
        if (entry := self._at_work) is None:
            return note
        begun = StepTime(name=entry.name, state=BEGUN, started_at=entry.started_at, seconds=0)
        return note.model_copy(update={"steps": (*note.steps, begun)})

    def note(self, ended: str) -> CommandNote:
        """Describe the command, with the steps that have ended."""
        steps = [
            StepTime(name=e.name, state=e.state, started_at=e.started_at, seconds=e.seconds)
            for e in self._ended
        ]
        return CommandNote(
            command=self._command,
            started_at=self.started_at,
            ended=ended,
            steps=tuple(steps),
            versions=library_versions(),
        )


def command_text(argv: Sequence[str]) -> str:
    """Return a command as a shell takes it: the program's name only, no credentials in URIs."""
    words = [Path(argv[0]).name, *argv[1:]] if argv else []
    return shlex.join(without_credentials(word) for word in words)


def library_versions() -> dict[str, str]:
    """Return what is installed here; a job's own code may be no installed package."""
    found = {"python": sys.version.partition(" ")[0]}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_note(
    run: ObjectStore, note: CommandNote, key: str | None = None, *, is_there: bool = False
) -> None:
    """Keep a command's note in the run's folder, if it made anything; failing is only logged.

    Args:
        run: the run's folder.
        note: the command's.
        key: where; a new place if none is given.
        is_there: a note was written there before; it is deleted if nothing was made after all.
    """
    key = key or _note_key(note.started_at, secrets.token_hex(4))
    store = run.with_deadline(NOTING_S)
    try:
        if _made_something(store, note):
            store.write(key, note.to_bytes())
        elif is_there:
            store.delete(key)
    except StoreError as error:
        log.warning("command_not_noted %s", error)


def _note_key(started_at: str, token: str) -> str:
    moment = started_at.translate(str.maketrans("", "", "-:")).partition("+")[0]
    return f"{FOLDER}{moment}Z-{token}.json"


def _made_something(run: ObjectStore, note: CommandNote) -> bool:
    states = {step.state for step in note.steps}
    # A training that failed may have made thousands of steps; one that was refused has no run.
    return bool(states & {RAN, BEGUN}) or (FAILED in states and run.stat(RUN) is not None)


def read_command_notes(run: ObjectStore, *, but: str = "") -> list[CommandNote]:
    """Read the notes in a run's folder, oldest first; one of another version is passed over.

    Args:
        run: the folder.
        but: the key of a note that is left out.
    """
    notes = []
    for info in run.list(FOLDER):
        if info.key == but:
            continue
        try:
            notes.append(parse_receipt(CommandNote, run.read(info.key), f"{run.uri}/{info.key}"))
        except ObjectCorrupt as error:
            log.warning("note_passed_over %s", error)
    return notes


def with_last_signs(notes: Sequence[CommandNote], signs_s: Sequence[float]) -> list[CommandNote]:
    """Give the step at which a command was killed the time until its last sign of life.

    Args:
        notes: of a run's commands, oldest first.
        signs_s: when the run's metrics were measured, in seconds since 1970, ascending.
    """
    starts = [*(_seconds(note.started_at) for note in notes), float("inf")]
    timed = []
    for note, next_s in zip(notes, starts[1:], strict=True):
        steps = [
            step.model_copy(update={"seconds": _lasted(step, signs_s, next_s)})
            if step.state == BEGUN
            else step
            for step in note.steps
        ]
        timed.append(note.model_copy(update={"steps": tuple(steps)}))
    return timed


def _lasted(step: StepTime, signs_s: Sequence[float], next_s: float) -> float:
    last = bisect_left(signs_s, next_s) - 1
    return max(signs_s[last] - _seconds(step.started_at), 0.0) if last >= 0 else 0.0


def how_it_ended(error: BaseException | None) -> str:
    """Say how a command ended that raised this."""
    match error:
        case None:
            return "done"
        case KeyboardInterrupt():
            return "interrupted"
        case ProjectError():
            return without_credentials(f"{type(error).__name__}: {error.problem}")
        case _:
            return type(error).__name__


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
