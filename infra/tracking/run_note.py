"""Which MLflow run belongs to a training: noted in its folder, found by tag, or made.

tracking/0001.json     {"server": …, "run_id": …}; the newest one that is valid counts
tracking/ended-1a2b    this server's run is FINISHED
"""

import logging
import re
import secrets
from typing import Final

from infra.canonical import digest_of
from infra.commit import Frozen, parse_receipt
from infra.errors import TrackingError
from infra.store import ObjectStore
from infra.tracking.base import ORIGIN_TAG, RunStatus, Tracker

log = logging.getLogger(__name__)

FOLDER: Final = "tracking/"
ORIGIN: Final = "origin"
_NOTE: Final = re.compile(rf"{FOLDER}\d{{4,}}\.json")


class RunNote(Frozen):
    """One run on one server."""

    server: str
    """The tracker's `server`: no credentials."""
    run_id: str


def open_run(
    tracker: Tracker,
    store: ObjectStore,
    *,
    run_key: str,
    run_name: str,
    timeout_s: float,
) -> str:
    """Return the id of the training's run, RUNNING: the noted one, one found by tag, or a new one.

    While the server is away a training that has a note goes on with it, unseen.

    Args:
        tracker: where runs are.
        store: the training's folder, for the notes.
        run_key: names the training; digits, letters, dashes.
        run_name: what people see.
        timeout_s: how long to wait for the server.

    Raises:
        TrackingError: the server is away and there is no note of it.
    """
    noted = run_ids_on(store, tracker.server)
    try:
        tracker.check_reachable(timeout_s)
    except TrackingError as error:
        if not noted:
            raise
        log.warning("tracking_away run_id=%s problem=%s", noted[-1], error)
        return noted[-1]
    run_id = _newest_valid(tracker, noted)
    if run_id is None:
        # Looked for by tag first: a kill between making and noting must not leave two.
        origin = _origin_of(store)
        run_id = tracker.find_run(run_key, origin)
        if run_id is None:
            run_id = _make_run(tracker, run_key, run_name, origin)
        _write_note(store, RunNote(server=tracker.server, run_id=run_id))
    store.delete(_ended_key(tracker.server, run_id))
    if tracker.status(run_id) is not RunStatus.RUNNING:
        tracker.set_status(run_id, RunStatus.RUNNING)
    return run_id


def end_run(
    tracker: Tracker, store: ObjectStore, run_id: str, status: RunStatus, reason: str = ""
) -> None:
    """Say how a training's run ended; of one that is FINISHED a note is kept in its folder.

    Raises:
        TrackingError: the server stays away or refuses.
    """
    tracker.set_status(run_id, status, reason)
    if status is RunStatus.FINISHED:
        note_end(store, tracker.server, run_id)


def note_end(store: ObjectStore, server: str, run_id: str) -> None:
    """Keep in mind that a server has a training's run as FINISHED."""
    store.create(_ended_key(server, run_id), b"")


def has_ended(store: ObjectStore, server: str, run_id: str) -> bool:
    """Tell, without asking it, whether a server was told that a training's run is FINISHED."""
    return store.stat(_ended_key(server, run_id)) is not None


def read_notes(store: ObjectStore) -> list[RunNote]:
    """Read every note, oldest first."""
    return [
        parse_receipt(RunNote, store.read(key), f"{store.uri}/{key}") for key in _note_keys(store)
    ]


def run_ids_on(store: ObjectStore, server: str) -> list[str]:
    """Return the ids of a training's runs on one server, oldest first; the server is not asked."""
    return [note.run_id for note in read_notes(store) if note.server == server]


def _make_run(tracker: Tracker, run_key: str, run_name: str, origin: str) -> str:
    made = tracker.create_run(run_key=run_key, run_name=run_name, tags={ORIGIN_TAG: origin})
    # MLflow's client asks again when an answer is lost: then there are two, and the older one is
    # what the next start would find.
    oldest = tracker.find_run(run_key, origin) or made
    if oldest != made:
        tracker.set_status(made, RunStatus.KILLED, f"made twice: the training's run is {oldest}")
    return oldest


def _origin_of(store: ObjectStore) -> str:
    """Return the random word that runs made for this folder carry; a copied folder keeps it.

    The same training in another workspace has a journal of its own, so it needs a run of its own:
    in one run every point would be drawn twice.
    """
    store.create(ORIGIN, secrets.token_hex(8).encode())
    return store.read(ORIGIN).decode()


def _newest_valid(tracker: Tracker, run_ids: list[str]) -> str | None:
    newest_first = reversed(run_ids)
    return next((run_id for run_id in newest_first if tracker.status(run_id) is not None), None)


def _write_note(store: ObjectStore, note: RunNote) -> None:
    number = len(_note_keys(store)) + 1
    while not store.create(f"{FOLDER}{number:04}.json", note.to_bytes()):
        number += 1


def _note_keys(store: ObjectStore) -> list[str]:
    return [info.key for info in store.list(FOLDER) if _NOTE.fullmatch(info.key)]


def _ended_key(server: str, run_id: str) -> str:
    return f"{FOLDER}ended-{digest_of([server, run_id])[:16]}"
