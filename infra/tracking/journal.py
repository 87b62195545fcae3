"""The journal: every metric point of a run, durable in the workspace before any server sees it."""

import json
import math
import re
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Any, Final

from infra.canonical import canonical_json, digest_of
from infra.commit import read_receipt, unreadable
from infra.store import ObjectStore, is_remote
from infra.tracking.points import MetricPoint

FOLDER: Final = "journal/"
_SEGMENT: Final = re.compile(rf"{FOLDER}(\d{{8}})\.json")


class Journal:
    """Metric points in numbered segments that are written once. Safe to share between threads.

    The first point of a (key, step) wins: a step that is trained again after a restart adds no
    second point and keeps its first timestamp, so a replay sends what was sent before.
    """

    def __init__(self, store: ObjectStore) -> None:
        """Read what is there; `store` is the run's folder."""
        self._store = store
        self._segments: list[tuple[MetricPoint, ...]] = []
        self._known: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        keys = _segments_in(store)
        # A long training has thousands of them, and in a remote store each is a request.
        with ThreadPoolExecutor(max_workers=16 if is_remote(store) else 1) as threads:
            for key, body in zip(keys, threads.map(store.read, keys), strict=True):
                self._take(_decode(body, f"{store.uri}/{key}"))

    @property
    def num_segments(self) -> int:
        """Segments known here; they are numbered from 1."""
        return len(self._segments)

    def segment(self, number: int) -> tuple[MetricPoint, ...]:
        """Return the points of one segment."""
        return self._segments[number - 1]

    def points_after(self, number: int, *, at_least: int) -> tuple[list[MetricPoint], int]:
        """Return the points of the segments after this one, and the number of the last of them.

        Whole segments: as few as hold `at_least` points, or all there are.
        """
        points: list[MetricPoint] = []
        while number < self.num_segments and len(points) < at_least:
            number += 1
            points += self.segment(number)
        return points, number

    def append(
        self, points: Iterable[MetricPoint], *, deadline_s: float = math.inf
    ) -> list[MetricPoint]:
        """Write points durably; return those that were new.

        When another writer took the next number, its segment is read and the one after tried.

        Args:
            points: in any order.
            deadline_s: how long a store that is away is tried, if not as long as it does itself.
        """
        store = self._store if math.isinf(deadline_s) else self._store.with_deadline(deadline_s)
        wanted = list(points)
        with self._lock:
            while accepted := self._new_among(wanted):
                key = _segment_key(self.num_segments + 1)
                body = _encode(accepted)
                if store.create(key, body):
                    self._take(accepted)
                    return accepted
                theirs = store.read(key)
                self._take(_decode(theirs, f"{self._store.uri}/{key}"))
                # A create that was sent twice finds its own first try.
                if theirs == body:
                    return accepted
            return []

    def delivered(self, server: str, run_id: str) -> int:
        """Return the number of the last segment that this server's run has; 0 for none."""
        return _delivered(self._store, server, run_id)

    def mark_delivered(self, server: str, run_id: str, number: int) -> None:
        """Note that this server's run has every segment up to this one."""
        self._store.write(_mark_key(server, run_id), canonical_json(number))

    def _take(self, points: Iterable[MetricPoint]) -> None:
        # Another's segment may repeat points: kept out here, they are not sent twice.
        self._segments.append(tuple(fresh := self._new_among(points)))
        self._known.update((point.key, point.step) for point in fresh)

    def _new_among(self, points: Iterable[MetricPoint]) -> list[MetricPoint]:
        first: dict[tuple[str, int], MetricPoint] = {}
        for point in points:
            if (point.key, point.step) not in self._known:
                first.setdefault((point.key, point.step), point)
        return list(first.values())


def first_point(store: ObjectStore) -> MetricPoint | None:
    """Read the first point of a run's journal, and no more of it; None while there is none."""
    key = _segment_key(1)
    body = read_receipt(store, key)
    points = [] if body is None else _decode(body, f"{store.uri}/{key}")
    return points[0] if points else None


def is_delivered(store: ObjectStore, server: str, run_id: str) -> bool:
    """Tell whether this server's run has all of a training's journal, without reading a point."""
    return _delivered(store, server, run_id) >= len(_segments_in(store))


def _delivered(store: ObjectStore, server: str, run_id: str) -> int:
    key = _mark_key(server, run_id)
    body = read_receipt(store, key)
    try:
        return 0 if body is None else int(body)
    except ValueError as error:
        raise unreadable(f"{store.uri}/{key}") from error


def _segments_in(store: ObjectStore) -> list[str]:
    found = (info.key for info in store.list(FOLDER) if _SEGMENT.fullmatch(info.key))
    # Up to the first gap: what lies beyond it was written against a rule of ours.
    numbered = takewhile(lambda n: n[1] == _segment_key(n[0]), enumerate(found, start=1))
    return [key for _, key in numbered]


def _segment_key(number: int) -> str:
    return f"{FOLDER}{number:08}.json"


def _mark_key(server: str, run_id: str) -> str:
    return f"{FOLDER}delivered-{digest_of([server, run_id])[:16]}.json"


def _encode(points: list[MetricPoint]) -> bytes:
    return canonical_json([_plain(point) for point in points])


def _plain(point: MetricPoint) -> dict[str, Any]:
    # JSON has no NaN: these three are written as "nan", "inf" and "-inf".
    finite = math.isfinite(point.value)
    return point.model_dump() | {"value": point.value if finite else str(point.value)}


def _decode(body: bytes, where: str) -> list[MetricPoint]:
    try:
        return [
            MetricPoint.model_validate(item | {"value": float(item["value"])})
            for item in json.loads(body)
        ]
    # pydantic's ValidationError is a ValueError; the others: JSON of another shape.
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable(where) from error
