"""Small archives in the official layout, full of drawn images: everything works without a download.

All that the real ones have is here: a tar a class inside the train tar, ids that do not follow the
WNIDs, inner synsets in meta.mat. The same settings give the same bytes (with the same Pillow).
"""

import gzip
import io
import logging
import tarfile
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from pydantic import ValidationError

from infra.canonical import digest_of
from infra.commit import (
    Frozen,
    StoredObject,
    check_listing,
    commit_receipt,
    read_receipt,
    write_object,
)
from infra.errors import ObjectCorrupt
from infra.store import ObjectStore
from preprocessing.settings import DrawnSettings
from preprocessing.sources.archives import DEVKIT_ARCHIVE, TRAIN_ARCHIVE, VAL_ARCHIVE
from preprocessing.sources.devkit import GROUND_TRUTH, META
from preprocessing.sources.drawn_images import KINDS, draw_jpeg, generator

DRAWN_VERSION: Final = 1
"""Goes up when the same settings would give other archives."""
RECEIPT: Final = "drawn.json"
_TIME: Final = 1339632000  # 2012-06-14, the day of the genuine devkit
_MAT_HEADER: Final = b"MATLAB 5.0 MAT-file, drawn by alexnet-pipeline".ljust(116)
_SYNSET: Final = np.dtype(
    [
        (name, object)
        for name in (
            "ILSVRC2012_ID",
            "WNID",
            "words",
            "gloss",
            "num_children",
            "children",
            "wordnet_height",
            "num_train_images",
        )
    ]
)

log = logging.getLogger(__name__)


class DrawnReceipt(Frozen):
    """Archives that were drawn."""

    settings: DrawnSettings
    archives: tuple[StoredObject, ...]


def ensure_drawn_archives(settings: DrawnSettings, workspace: ObjectStore) -> ObjectStore:
    """Return the store of the drawn archives in a workspace, drawn now if they are not there."""
    key = digest_of(["drawn", DRAWN_VERSION, settings.model_dump()])
    store = workspace.child(f"archives/drawn-{key[:16]}")
    if not _is_complete(store):
        log.info("drawing_archives uri=%s", store.uri)
        receipt = DrawnReceipt(settings=settings, archives=draw_archives(settings, store))
        commit_receipt(store, RECEIPT, receipt.model_dump_json().encode())
    return store


def draw_archives(settings: DrawnSettings, store: ObjectStore) -> tuple[StoredObject, ...]:
    """Draw the three archives into a store, replacing any."""
    kinds = KINDS[: settings.num_classes]
    wnids = [f"n{10 * (number + 1):08}" for number in range(len(kinds))]
    val = _shuffled(settings, "val order", [*range(len(kinds))] * settings.val_per_class)
    ids = _shuffled(settings, "ids", range(1, len(kinds) + 1))
    train = _train_members(settings, wnids)
    bodies = {
        TRAIN_ARCHIVE: _tar(train),
        VAL_ARCHIVE: _tar(_val_members(settings, val)),
        DEVKIT_ARCHIVE: _devkit(settings, wnids, ids, [ids[label] for label in val]),
    }
    return tuple(write_object(store, name, body) for name, body in bodies.items())


def _train_members(settings: DrawnSettings, wnids: Sequence[str]) -> Iterable[tuple[str, bytes]]:
    for label, wnid in enumerate(wnids):
        yield (
            f"{wnid}.tar",
            _tar(
                (f"{wnid}_{number}.JPEG", _image(settings, "train", label, number))
                for number in range(settings.train_per_class)
            ),
        )


def _val_members(settings: DrawnSettings, labels: Iterable[int]) -> Iterable[tuple[str, bytes]]:
    for number, label in enumerate(labels, 1):
        yield (
            f"ILSVRC2012_val_{number:08}.JPEG",
            _image(settings, "val", label, number),
        )


def _image(settings: DrawnSettings, split: str, label: int, number: int) -> bytes:
    return draw_jpeg(label, generator(settings.seed, split, label, number))


def _shuffled(settings: DrawnSettings, purpose: str, values: Sequence[int]) -> list[int]:
    return [int(value) for value in generator(settings.seed, purpose).permutation(values)]


def _devkit(
    settings: DrawnSettings, wnids: Sequence[str], ids: Sequence[int], val_ids: Sequence[int]
) -> bytes:
    files = {
        META: _meta_mat(settings, wnids, ids),
        GROUND_TRUTH: "".join(f"{synset_id}\n" for synset_id in val_ids).encode(),
    }
    tar = _tar((f"ILSVRC2012_devkit_t12/{name}", body) for name, body in files.items())
    return gzip.compress(tar, mtime=0)


def _meta_mat(settings: DrawnSettings, wnids: Sequence[str], ids: Sequence[int]) -> bytes:
    """Write synsets as the genuine file has them: leaves by id, then inner ones."""
    import scipy.io  # 0.2 s, which every process that renders would spend

    count = settings.train_per_class
    leaves: list[tuple[object, ...]] = [
        # The genuine file, too, has leaves that are not at height 0.
        (ids[label], wnids[label], KINDS[label].words, "a drawn figure", 0, [], label % 2, count)
        for label in np.argsort(ids)
    ]
    root = len(leaves) + 1
    inner: list[tuple[object, ...]] = [
        (root, "n00000001", "entity", "all there is", 2, [root + 1, root + 2], 2, 0),
        (root + 1, "n00000002", "figure", "one form", len(ids) - 1, [*ids[:-1]], 1, 0),
        (root + 2, "n00000003", "pattern", "many forms", 1, [ids[-1]], 1, 0),
    ]
    synsets = np.array([[row] for row in leaves + inner], dtype=_SYNSET)
    out = io.BytesIO()
    scipy.io.savemat(out, {"synsets": synsets})  # type: ignore[arg-type]  # stubs know no files
    # The header would hold the time.
    return _MAT_HEADER + out.getvalue()[len(_MAT_HEADER) :]


def _tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(body), _TIME
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


def _is_complete(store: ObjectStore) -> bool:
    """Whether a receipt is there, and all it names has the right size."""
    body = read_receipt(store, RECEIPT)
    if body is None:
        return False
    try:
        check_listing(store, DrawnReceipt.model_validate_json(body).archives)
    except (ValidationError, ObjectCorrupt):
        log.warning("drawn_archives_drawn_again uri=%s reason=incomplete", store.uri)
        store.delete(RECEIPT)  # it would stand in the way of the new one
        return False
    return True
