"""Whether a store keeps the promises that commits, leases and datasets rest on.

Two of three small S3 servers that were tried would have lost commits without a word.
"""

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from infra.canonical import canonical_json, digest_of
from infra.commit import read_receipt
from infra.errors import StoreError
from infra.store.base import ObjectStore, is_remote
from infra.store.s3 import S3Store
from infra.store.s3_check import (
    answers_a_wrong_secret,
    endpoint_of,
    pyarrow_reads_what_we_write,
)
from infra.store.s3_upload import PART_BYTES
from infra.store.scratch import scratch_place

log = logging.getLogger(__name__)

WRITERS: Final = 16
ROUNDS: Final = 5
LIST_OBJECTS: Final = 1100
"""More than the thousand that one answer lists."""
_MARK: Final = "workspace.json"


class Finding(NamedTuple):
    """One promise, and what was seen instead if it is not kept."""

    promise: str
    problem: str | None


Probe = Callable[[ObjectStore], str | None]
"""Given an empty place of its own, returns what is wrong, or None."""


def check_store(store: ObjectStore, *, thorough: bool = True) -> list[Finding]:
    """Try every promise in a folder of its own, which is emptied afterwards.

    Args:
        store: the place.
        thorough: also what only costs time when broken: long lists, large objects, other clients.

    Raises:
        StoreError: the store refuses, or stayed away.
    """
    probes = _PROBES | (_THOROUGH_PROBES if thorough else {})
    with scratch_place(store, "storage-check") as place:
        findings = [Finding(promise, probe(place)) for promise, probe in probes.items()]
        if thorough and isinstance(place, S3Store):
            findings += [Finding(promise, probe(place)) for promise, probe in _S3_PROBES.items()]
        return findings


def refuse_unless_kept(store: ObjectStore, findings: list[Finding]) -> None:
    """Raise for broken promises.

    Raises:
        StoreError: names each, with what was seen.
    """
    broken = [finding for finding in findings if finding.problem is not None]
    if broken:
        seen = "; ".join(f"{finding.promise} ({finding.problem})" for finding in broken)
        raise StoreError(
            f"{store.uri} lacks {seen}",
            remedy="use a store that has it, or a newer version of this one; prove it with"
            " `alexnet storage check`",
        )


def open_workspace(store: ObjectStore) -> None:
    """Write the workspace's mark; a place that is new is checked, one that is known a little.

    Raises:
        StoreError: it cannot be written, or would lose commits.
    """
    mark = canonical_json({"schema_version": 1, "checked": _place_digest(store)})
    if is_remote(store) and read_receipt(store, _MARK) != mark:
        refuse_unless_kept(store, check_store(store, thorough=False))
        log.info("store_checked uri=%s", store.uri)
    store.write(_MARK, mark)
    # The one promise that breaks without a word, at every start: servers change behind a name.
    if store.create(_MARK, mark):
        refuse_unless_kept(store, [Finding(CONDITIONAL_PUT, "it overwrites an object")])


def _place_digest(store: ObjectStore) -> str:
    """Tell this place from the one that a copied workspace was checked at."""
    return digest_of([store.uri, endpoint_of(store) if isinstance(store, S3Store) else ""])


def _reads_back(store: ObjectStore) -> str | None:
    store.write("object", b"first")
    store.write("object", b"second")
    if store.read("object") != b"second":
        return "a read after a write gives the old object"
    store.delete("object")
    return None if store.stat("object") is None else "a deleted object is still there"


def _creates_once(store: ObjectStore) -> str | None:
    if not store.create("once", b"first"):
        return "a free name is refused"
    if store.create("once", b"second") or store.read("once") != b"first":
        return "it overwrites an object"
    return None


def _has_one_winner(store: ObjectStore) -> str | None:
    with ThreadPoolExecutor(WRITERS) as threads:
        for round_ in range(ROUNDS):
            key = f"race-{round_}"
            bodies = [f"writer {number}".encode() for number in range(WRITERS)]
            won = list(threads.map(lambda body: store.create(key, body), bodies))  # noqa: B023
            if won.count(True) != 1:
                return f"{won.count(True)} of {WRITERS} writers won"
            if store.read(key) != bodies[won.index(True)]:
                return "another's object was kept than the winner's"
    return None


def _reads_ranges(store: ObjectStore) -> str | None:
    body = bytes(range(256)) * 16
    store.write("ranges", body)
    for start, stop in ((0, 10), (1000, 2000), (4090, 5000), (5000, 6000)):
        if store.read_range("ranges", start, stop) != body[start:stop]:
            return f"bytes {start} to {stop} are others"
    return None


def _keeps_large_objects(store: ObjectStore) -> str | None:
    piece = hashlib.sha256(store.uri.encode()).digest() * (1 << 15)
    digest, count = hashlib.sha256(), 2 * PART_BYTES // len(piece) + 2
    with store.open_output("large") as file:
        for number in range(count):
            part = number.to_bytes(4, "big") + piece
            digest.update(part)
            file.write(part)
    if hashlib.sha256(store.read("large")).digest() != digest.digest():
        return "what was sent in parts is read back with other bytes"
    return None


def _lists_all(store: ObjectStore) -> str | None:
    keys = [f"many/{number:05}" for number in range(LIST_OBJECTS)]
    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(lambda key: store.write(key, b""), keys))
    found = [info.key for info in store.list("many/")]
    return None if found == keys else f"{len(found)} of {len(keys)} objects listed, or unsorted"


CONDITIONAL_PUT: Final = "conditional put"

_PROBES: Final[dict[str, Probe]] = {
    "read after write": _reads_back,
    CONDITIONAL_PUT: _creates_once,
    "one winner of a conditional put": _has_one_winner,
    "ranges": _reads_ranges,
}
_THOROUGH_PROBES: Final[dict[str, Probe]] = {
    "objects in parts": _keeps_large_objects,
    "long lists": _lists_all,
}
_S3_PROBES: Final[dict[str, Callable[[S3Store], str | None]]] = {
    "the same bytes for pyarrow": pyarrow_reads_what_we_write,
    "refusal of a wrong secret": answers_a_wrong_secret,
}
