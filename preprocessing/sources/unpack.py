"""Images that are no byte ranges of any file (rows of pickles, of Parquet) → files of images.

Once, into the workspace: every source file becomes one file of its images' files, one behind the
other, and a table of where each lies. From there on they are members like any other.

    archives/<kind>-<key>/
        unpacked.json       the receipt: all there is; written last
        members.parquet     where every image lies, and its SHA-256
        images/<source>     images, one behind the other
        parts/<source>.…    receipt and table of one source file: where a stopped run goes on
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import pyarrow as pa
from pydantic import ValidationError

from infra.canonical import digest_of, sha256_hex
from infra.commit import (
    Frozen,
    StoredObject,
    check_listing,
    commit_receipt,
    read_object,
    read_receipt,
    write_object,
)
from infra.errors import DataError, ObjectCorrupt
from infra.parquet import parquet_bytes, read_parquet
from infra.store import ObjectStore, is_remote
from preprocessing.sources.archives import SourceFile
from preprocessing.sources.labelled import COLUMNS

UNPACK_VERSION: Final = 2
"""Goes up when the same files would be unpacked in another way."""
UNPACKED: Final = COLUMNS.append(pa.field("sha256", pa.string()))
"""Columns of the table: hex SHA-256 of each image, beside where it lies and what is known of it."""
RECEIPT: Final = "unpacked.json"
_IMAGES: Final = "images/"
MAX_IMAGES: Final = 2_000_000
"""Of one source file; their table is in memory."""
_MAX_GROWTH: Final = 100
"""Images of a source file have at most so many times its bytes: packed images hardly shrink."""
_FILES_AT_ONCE: Final = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UnpackedImage:
    """One image of a source file: a whole image file, and what is known of it."""

    name: str
    body: bytes
    label: int
    wnid: str | None = None


class UnpackedPart(Frozen):
    """One source file's images, unpacked."""

    images: StoredObject
    table: StoredObject


class UnpackReceipt(Frozen):
    """Everything unpacked of one source."""

    uri: str
    sources: tuple[SourceFile, ...]
    images: tuple[StoredObject, ...]
    members: StoredObject


ReadImages = Callable[[SourceFile], Iterator[UnpackedImage]]


def images_path(source: SourceFile) -> str:
    """Return the archive, as members name it, that a source file's images are in."""
    return f"{_IMAGES}{source.name}"


def unpack(
    workspace: ObjectStore,
    kind: str,
    store: ObjectStore,
    sources: tuple[SourceFile, ...],
    read: ReadImages,
) -> tuple[ObjectStore, pa.Table]:
    """Return where the images of some files are unpacked, and their table; unpack what is not.

    Two processes that do so at once write the same bytes.

    Args:
        kind: names the folder, and is in its key.
        sources: in the order that the table shall have.
        read: yields the images of one; called in several threads where the store is remote.

    Raises:
        DataError: whatever `read` raises; an empty image; more images or bytes than can be.
        ObjectCorrupt: the table that was kept is damaged.
    """
    key = digest_of([kind, UNPACK_VERSION, store.uri, [source.model_dump() for source in sources]])
    folder = workspace.child(f"archives/{kind}-{key[:16]}")
    receipt = _kept(folder) or _unpack(folder, store, sources, read)
    return folder, read_parquet(read_object(folder, receipt.members))


def refuse_damaged_copy(folder: ObjectStore, archive: str, name: str) -> NoReturn:
    """Have the next run unpack a file again whose copy has other bytes, and raise that it has.

    Args:
        folder: where it is unpacked.
        archive: the copy, as `images_path` names it.
        name: of the image that has other bytes.
    """
    # What says that the copy is whole: of all files, and of this one.
    folder.delete(RECEIPT)
    folder.delete(_part_path(archive.removeprefix(_IMAGES)))
    raise ObjectCorrupt(
        f"{folder.uri}/{archive}: image {name!r} does not have the bytes that were unpacked",
        remedy="run the same command again: it unpacks that file anew and goes on",
    )


def _kept(folder: ObjectStore) -> UnpackReceipt | None:
    """Return the receipt, if it is there and all it names has the right size."""
    body = read_receipt(folder, RECEIPT)
    if body is None:
        return None
    try:
        receipt = UnpackReceipt.model_validate_json(body)
        check_listing(folder, [*receipt.images, receipt.members])
    except (ValidationError, ObjectCorrupt):
        log.warning("unpacked_again uri=%s reason=incomplete", folder.uri)
        folder.delete(RECEIPT)
        return None
    return receipt


def _unpack(
    folder: ObjectStore, store: ObjectStore, sources: tuple[SourceFile, ...], read: ReadImages
) -> UnpackReceipt:
    log.info("unpacking uri=%s into=%s num_files=%d", store.uri, folder.uri, len(sources))
    sizes = {info.key: info.size_bytes for info in folder.list()}
    if is_remote(store):
        parts = _parts_at_once(folder, sources, sizes, read)
    else:
        parts = [_part(folder, source, sizes, read) for source in sources]
    tables = [read_parquet(read_object(folder, part.table)) for part in parts]
    members = write_object(folder, "members.parquet", parquet_bytes(pa.concat_tables(tables)))
    receipt = UnpackReceipt(
        uri=store.uri,
        sources=sources,
        images=tuple(part.images for part in parts),
        members=members,
    )
    commit_receipt(folder, RECEIPT, receipt.model_dump_json().encode())
    return receipt


def _parts_at_once(
    folder: ObjectStore, sources: tuple[SourceFile, ...], sizes: dict[str, int], read: ReadImages
) -> list[UnpackedPart]:
    stopped = threading.Event()

    def read_on(source: SourceFile) -> Iterator[UnpackedImage]:
        for image in read(source):
            if stopped.is_set():
                raise CancelledError  # nobody waits for this file any more
            yield image

    with ThreadPoolExecutor(max_workers=_FILES_AT_ONCE) as threads:
        try:
            return list(threads.map(lambda source: _part(folder, source, sizes, read_on), sources))
        except BaseException:
            # Else each thread would end its file first: minutes, after a Ctrl-C.
            stopped.set()
            raise


def _part(
    folder: ObjectStore, source: SourceFile, sizes: dict[str, int], read: ReadImages
) -> UnpackedPart:
    """Unpack one source file, unless an earlier run has."""
    path = _part_path(source.name)
    if path in sizes:
        try:
            part = UnpackedPart.model_validate_json(folder.read(path))
        except ValidationError:
            part = None
        if part and all(sizes.get(i.path) == i.size_bytes for i in (part.images, part.table)):
            return part
    images, table = _write_images(folder, source, read)
    part = UnpackedPart(
        images=images,
        table=write_object(folder, f"parts/{source.name}.parquet", parquet_bytes(table)),
    )
    folder.write(path, part.model_dump_json().encode())
    log.info("file_unpacked name=%s num_images=%d", source.name, table.num_rows)
    return part


def _part_path(name: str) -> str:
    """Return where the receipt of one source file's images is."""
    return f"parts/{name}.json"


def _write_images(
    folder: ObjectStore, source: SourceFile, read: ReadImages
) -> tuple[StoredObject, pa.Table]:
    path, digest, size_bytes = images_path(source), hashlib.sha256(), 0
    columns: dict[str, list[Any]] = {name: [] for name in UNPACKED.names}
    with folder.open_output(path) as file:
        for image in read(source):
            place = (path, image.name, size_bytes, len(image.body))
            row = (*place, image.label, image.wnid, sha256_hex(image.body))
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
            size_bytes += len(image.body)
            _check(source, image, len(columns["name"]), size_bytes)
            file.write(image.body)
            digest.update(image.body)
    images = StoredObject(path=path, size_bytes=size_bytes, sha256=digest.hexdigest())
    return images, pa.table(columns, schema=UNPACKED)


def _check(source: SourceFile, image: UnpackedImage, count: int, size_bytes: int) -> None:
    if not image.body:
        problem = f"image {image.name!r} is empty"
    elif count > MAX_IMAGES:
        problem = f"{source.name} has more than {MAX_IMAGES:,} images"
    elif size_bytes > _MAX_GROWTH * source.size_bytes:
        problem = f"the images of {source.name} have more than {_MAX_GROWTH} times its bytes"
    else:
        return
    raise DataError(problem, remedy="write the file again, with image files in it; or several")
