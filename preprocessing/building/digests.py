"""Large objects by their digests: has one the bytes it should have, and a copy that proves itself.

In pieces: memory does not grow with the object.
"""

import hashlib
from typing import Final

import pyarrow as pa

from infra.commit import StoredObject
from infra.errors import ObjectCorrupt, StoreError
from infra.store import ObjectStore

PIECE_BYTES: Final = 8 << 20


def damage_of(store: ObjectStore, expected: StoredObject) -> str | None:
    """Read an object and say what is wrong with it: missing, of another size, of other bytes.

    Raises:
        StoreError: the place itself fails.
    """
    info = store.stat(expected.path)
    if info is None:
        return "is missing"
    if info.size_bytes != expected.size_bytes:
        return f"has {info.size_bytes:,} bytes, it should have {expected.size_bytes:,}"
    digest = hashlib.sha256()
    try:
        with store.open_input(expected.path) as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
    except FileNotFoundError:
        return "is missing"
    except (OSError, pa.ArrowException) as error:
        return f"cannot be read: {error}"  # a bad disk says so while it is read
    return None if digest.hexdigest() == expected.sha256 else "does not have the bytes it should"


def copy_object(source: ObjectStore, target: ObjectStore, expected: StoredObject) -> None:
    """Copy an object to the same path of another store, whole or not at all.

    Raises:
        ObjectCorrupt: what was read is not what was expected; nothing is written then.
        StoreError: it is gone.
    """
    try:
        _copy(source, target, expected)
    except FileNotFoundError as error:
        raise StoreError(
            f"{source.uri}/{expected.path} was written, and is gone",
            remedy="see whether another process works there; then run again",
        ) from error


def _copy(source: ObjectStore, target: ObjectStore, expected: StoredObject) -> None:
    digest = hashlib.sha256()
    with source.open_input(expected.path) as file, target.open_output(expected.path) as copy:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            copy.write(piece)
        if digest.hexdigest() != expected.sha256:  # inside: the copy must not come to be
            raise ObjectCorrupt(
                f"{source.uri}/{expected.path} was written well and is read otherwise",
                remedy="check the disk and the memory of this machine, and run again",
            )
