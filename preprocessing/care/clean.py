"""Remove what interrupted builds left in a workspace, and nothing else.

Leftovers are known by name: files of a dataset that has no manifest, what a repair had aside, and
writes that never ended. All else stays, ours or a stranger's; so do the receipts in `_build/` of a
committed dataset, from which a repair makes statistics and lists without rendering all anew. A
folder is cleaned under its lease, so nobody can be at work in it.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from infra.claims import FOLDER as LEASES
from infra.claims import Claim, was_let_go
from infra.errors import DataError, ProjectError
from infra.lease import LeaseTimings, hold_lease
from infra.store import FolderStore, ObjectStore
from infra.store.unfinished import Unfinished, list_unfinished, remove_unfinished
from preprocessing.building.resume import ENVIRONMENT
from preprocessing.care.repair import ASIDE
from preprocessing.dataset.manifest import CLASSES, MANIFEST, MEMBERS, REJECTS, STATISTICS

QUIET_S: Final = 3600.0
"""Where no lease tells, a write is given up when nothing was added to it for so long."""

_DATASET: Final = re.compile(r"datasets/[a-z0-9][a-z0-9-]*-[0-9a-f]{16}")
_LEASED: Final = re.compile(
    r"(datasets|runs|evaluations|gates|registrations|reports)/([^/]+-)?[0-9a-f]{16}(?=/)"
)
"""Folders in which work is done under a lease of theirs."""
_UNLEASED: Final = re.compile(r"(indexes|archives|models|champions)/.*|[^/]+")
_SHARD: Final = r"(train|val)/part-\d{5}-of-\d{5}\.parquet"
_RECEIPT: Final = (
    r"_build/((environment|compared-[0-9a-f]{16})\.json|rejects\.parquet"
    r"|(train|val)-\d{5}\.(json|safetensors))"
)
_FILES: Final = "|".join(map(re.escape, (CLASSES, STATISTICS, MEMBERS, REJECTS)))
_PRODUCT: Final = rf"{_SHARD}|{_RECEIPT}|{_FILES}"
_BUILT: Final = re.compile(rf"{_PRODUCT}|sources/[0-9a-f]{{64}}\.json")
_ASIDE: Final = re.compile(rf"{ASIDE}/(\d{{4,}}/)?({_PRODUCT}|{re.escape(MANIFEST)})")
"""Below the number of a repair's lease; earlier versions made none."""
_LEASE: Final = re.compile(rf"{LEASES}(\d{{4,}})\.(json|beat)")


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that was removed."""

    path: str
    """Below the workspace."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What was removed, and what looks like a leftover and was left alone, with the reason."""

    removed: list[Leftover] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def clean_workspace(
    workspace: ObjectStore,
    *,
    timings: LeaseTimings | None = None,
    clock: Callable[[], float] = time.time,
) -> Cleaning:
    """Remove leftovers; a folder that a live process works on, or that refuses, is left alone.

    Args:
        timings: of the leases that are looked at; the defaults unless a test says otherwise.
        clock: seconds since 1970.

    Raises:
        StoreError: the store cannot be listed, or stayed away.
    """
    timings = timings or LeaseTimings.of(workspace)
    cleaning = Cleaning()
    unfinished = _unfinished(workspace)
    folders = {match[0] for item in unfinished if (match := _LEASED.match(item.key))}
    half_built = _half_built(workspace)
    for path in sorted(folders | set(half_built)):
        with _or_kept(cleaning, path):
            if was_let_go(workspace.child(path)):
                # Nobody's build tells: it may be a dataset that is being copied here.
                _refuse_unless_quiet(clock() - half_built.get(path, 0.0))
            _clean_folder(workspace, path, unfinished, timings, cleaning)
    for item in unfinished:
        if _UNLEASED.fullmatch(item.key):
            with _or_kept(cleaning, item.key):
                _refuse_unless_quiet(clock() - item.since_s)
                _remove(workspace, [item], cleaning)
    return cleaning


def leftovers_of_dataset(keys: Iterable[str]) -> list[str]:
    """Choose, of all keys in a dataset's folder, what an interrupted build or repair left. Pure."""
    keys = list(keys)
    is_left = _ASIDE if MANIFEST in keys else re.compile(f"{_BUILT.pattern}|{_ASIDE.pattern}")
    return [key for key in keys if is_left.fullmatch(key)]


class _AtWork(DataError):
    """Somebody works on this folder."""


class _Written(DataError):
    """Somebody may still be writing it."""


@contextmanager
def _or_kept(cleaning: Cleaning, path: str) -> Iterator[None]:
    """Note why something was left alone, and go on with the rest."""
    try:
        yield
    except ProjectError as error:
        cleaning.kept[path] = error.problem


def _refuse_unless_quiet(quiet_s: float) -> None:
    if quiet_s < QUIET_S:
        raise _Written(
            f"was written {max(0.0, quiet_s):.0f} s ago, and no lease tells by whom",
            remedy=f"clean again when it has been quiet for {QUIET_S:.0f} s",
        )


def _half_built(workspace: ObjectStore) -> dict[str, float]:
    """Find the datasets' folders in which something is left, such as `datasets/x-0123…`.

    Returns:
        For each when it was last written (seconds since 1970), leases aside; 0 where a dataset is
        whole, for what is left there has names of its own.
    """
    written: dict[str, dict[str, float]] = {}
    for info in workspace.list("datasets/"):
        folder, _, name = info.key.removeprefix("datasets/").partition("/")
        if name and _DATASET.fullmatch(path := f"datasets/{folder}"):
            written.setdefault(path, {})[name] = info.written_s
    return {path: _last(found) for path, found in written.items() if _is_left(found)}


def _last(written: Mapping[str, float]) -> float:
    if MANIFEST in written:
        return 0.0
    return max((at for name, at in written.items() if not _LEASE.fullmatch(name)), default=0.0)


def _is_left(names: Collection[str]) -> bool:
    return bool(leftovers_of_dataset(names)) or all(_LEASE.fullmatch(name) for name in names)


def _clean_folder(
    workspace: ObjectStore,
    path: str,
    unfinished: Collection[Unfinished],
    timings: LeaseTimings,
    cleaning: Cleaning,
) -> None:
    place = workspace.child(path)
    with hold_lease(
        place, wait_report=partial(_refuse_if_alive, place, timings), timings=timings
    ) as lease:
        # Listed again: what was a leftover a moment ago may have become a dataset. What is new
        # since is being written, such as the heartbeat of our own lease.
        still = [item for item in _unfinished(workspace, f"{path}/") if item in unfinished]
        _remove(workspace, still, cleaning)
        if not _DATASET.fullmatch(path):
            return
        sizes = {info.key: info.size_bytes for info in place.list()}
        # The environment goes last: a kill must not leave shards that the next build, with other
        # libraries, takes for its own.
        for key in sorted(leftovers_of_dataset(sizes), key=lambda key: key == ENVIRONMENT):
            lease.delete(place, key)
            cleaning.removed.append(Leftover(f"{path}/{key}", sizes[key]))
    if place.stat(MANIFEST) is None:
        _forget_leases(place, lease.number)
    _remove_empty_folders(place)


def _forget_leases(place: ObjectStore, number: int) -> None:
    """Delete our claim and those before it: whoever waited meanwhile has a later one."""
    for info in list(place.list(LEASES)):
        match = _LEASE.fullmatch(info.key)
        if match and int(match[1]) <= number:
            place.delete(info.key)


def _refuse_if_alive(place: ObjectStore, timings: LeaseTimings, claim: Claim) -> None:
    """Watch a lease for as long as its owner may be silent.

    Raises:
        _AtWork: the owner speaks.
    """
    before = [(info.key, info.version) for info in place.list(LEASES)]
    for _ in range(max(1, round(timings.stale_s / timings.poll_s))):
        time.sleep(timings.poll_s)
        if [(info.key, info.version) for info in place.list(LEASES)] != before:
            raise _AtWork(f"{claim.process} works on it", remedy="let it end, and clean again")


def _unfinished(workspace: ObjectStore, prefix: str = "") -> list[Unfinished]:
    """List the unfinished writes below a prefix: in S3, of files that a dataset has."""
    found = list_unfinished(workspace, prefix)
    if isinstance(workspace, FolderStore):
        return found  # their names say that they are ours
    return [item for item in found if _is_of_dataset(item.key)]


def _is_of_dataset(key: str) -> bool:
    match = re.fullmatch(rf"{_DATASET.pattern}/(.*)", key)
    return match is not None and bool(leftovers_of_dataset([match[1]]))


def _remove(workspace: ObjectStore, items: Iterable[Unfinished], cleaning: Cleaning) -> None:
    for item in items:
        remove_unfinished(workspace, item)
        cleaning.removed.append(Leftover(item.key, item.size_bytes))


def _remove_empty_folders(place: ObjectStore) -> None:
    """Take away the folders that a build made in a directory, as far as nothing is left in them."""
    if not isinstance(place, FolderStore):
        return
    root = Path(place.uri)
    below = [path for path in root.glob(f"{ASIDE}/**") if path.is_dir()]
    names = ("_build", "train", "val", "sources", "lease", "")
    for path in (*sorted(below, reverse=True), *(root / name for name in names)):
        with suppress(OSError):  # there is something in it, or it is not there
            path.rmdir()
