"""Commit: objects first, then one receipt that names them, by create-if-absent."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from infra.canonical import canonical_json, sha256_hex
from infra.errors import DataError, ObjectCorrupt
from infra.store.base import ObjectStore

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _below(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ValueError(f"{path!r} does not lie below the folder")
    return path


RelativePath = Annotated[str, AfterValidator(_below)]

RESTORED: Final = "restore it from a copy, or delete it and run again"

Model = TypeVar("Model", bound=BaseModel)


class Frozen(BaseModel):
    """Base of everything that is written down: frozen, strict, no unknown fields."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    def to_bytes(self) -> bytes:
        """Write as canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))


class StoredObject(Frozen):
    """One object a receipt vouches for; its path is relative to the receipt's folder."""

    path: RelativePath
    size_bytes: int
    sha256: Sha256


def write_object(store: ObjectStore, path: str, body: bytes) -> StoredObject:
    """Write one object and describe it."""
    store.write(path, body)
    return describe_object(path, body)


def describe_object(path: str, body: bytes) -> StoredObject:
    """Describe an object as it is, or would be, stored."""
    return StoredObject(path=path, size_bytes=len(body), sha256=sha256_hex(body))


def read_object(store: ObjectStore, expected: StoredObject, *, remedy: str | None = None) -> bytes:
    """Read one object that a receipt names, whole, with its digest checked.

    Args:
        store: the receipt's folder.
        expected: the object.
        remedy: what to do about a damaged one, where deleting the folder would not do.

    Raises:
        ObjectCorrupt: it is missing or its bytes are others.

    """
    try:
        body = store.read(expected.path)
    except FileNotFoundError:
        raise _corrupt(store, expected.path, "is missing", remedy) from None
    if sha256_hex(body) != expected.sha256:
        raise _corrupt(store, expected.path, "does not have the bytes its receipt names", remedy)
    return body


def check_listing(store: ObjectStore, expected: Iterable[StoredObject]) -> None:
    """Check by one listing that every object is there with its size (bytes when they are read).

    Raises:
        ObjectCorrupt: one is missing or has another size.

    """
    sizes = {info.key: info.size_bytes for info in store.list()}
    for item in expected:
        size_bytes = sizes.get(item.path)
        # A listing follows no folder that is a link; reading does.
        if size_bytes is None and (info := store.stat(item.path)) is not None:
            size_bytes = info.size_bytes
        if size_bytes is None:
            raise _corrupt(store, item.path, "is missing")
        if size_bytes != item.size_bytes:
            raise _corrupt(
                store, item.path, f"has {size_bytes:,} bytes, its receipt says {item.size_bytes:,}"
            )


def commit_receipt(store: ObjectStore, path: str, body: bytes) -> bytes:
    """Publish a receipt unless there is one; return the one that holds, ours or the other's."""
    return body if store.create(path, body) else store.read(path)


def read_receipt(store: ObjectStore, path: str) -> bytes | None:
    """Return a receipt's bytes, or None when the thing it would vouch for does not exist."""
    try:
        return store.read(path)
    except FileNotFoundError:
        return None


def parse_receipt(
    model: type[Model],
    body: bytes,
    where: str,
    *,
    raised: type[DataError] = ObjectCorrupt,
    remedy: str = RESTORED,
) -> Model:
    """Parse what was written down at a place.

    Args:
        model: what it is.
        body: what was read there.
        where: names the place.
        raised: the error for bytes that are none of this model's.
        remedy: what to do then.

    Raises:
        ObjectCorrupt: the bytes are none of this model's; or `raised`.

    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise raised(_unreadable(where), remedy=remedy) from error


def unreadable(where: str) -> ObjectCorrupt:
    """Return the error for bytes that are not what is written down at this place."""
    return ObjectCorrupt(_unreadable(where), remedy=RESTORED)


def _unreadable(where: str) -> str:
    return f"{where} cannot be read: cut, or written by another version"


def _corrupt(store: ObjectStore, path: str, what: str, remedy: str | None = None) -> ObjectCorrupt:
    return ObjectCorrupt(
        f"{store.uri}/{path} {what}",
        remedy=remedy
        or f"restore it from a copy, or delete {store.uri} and run again to make it anew",
    )
