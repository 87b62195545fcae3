"""The manifest: the list that *is* a dataset, and all that others need to read it.

Written last, by create-if-absent, and never changed: whoever can read the manifest can read every
shard it names. It says nothing about where it lives, so a copied dataset is the same dataset.
"""

from functools import cached_property
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from infra.canonical import digest_of
from infra.commit import Frozen, StoredObject, check_listing, read_receipt
from infra.store import ObjectStore
from preprocessing.dataset.stored import EncodingName, ShapeName
from preprocessing.errors import ManifestError

MANIFEST = "manifest.json"
CLASSES = "classes.json"
STATISTICS = "stats.safetensors"
MEMBERS = "members.parquet"
REJECTS = "rejects.parquet"

RESTORED: Final = (
    "restore manifest.json from a copy; or, with the libraries and the archives that the dataset"
    " was made with, delete it and run `alexnet prepare`: finished shards are not rendered again"
)
"""What to do about a manifest that is no good."""

SplitName = Literal["train", "val"]
Count = Annotated[int, Field(ge=0)]


class Shard(StoredObject):
    """One Parquet file: the plan's samples start (inclusive) to stop (exclusive), less its holes.

    All row groups are full but the last; rows stand in the order of their sample ids.
    """

    start: Count
    stop: Count
    holes: tuple[int, ...] = ()
    """Sample ids that were rejected at render, ascending."""
    pixels_xxh3: str | None = None
    """Hex XXH3 of the rows' sizes and pixels before encoding: 128 bits, the same under any encoder.

    It is no security digest; `sha256` is.
    """
    pixels_sha256: str | None = Field(default=None, exclude=True, repr=False)
    """What VERSION 3 of `prepare` wrote in its place; read, and left aside."""

    @model_validator(mode="after")
    def _holes_are_inside(self) -> "Shard":
        inside = all(self.start <= hole < self.stop for hole in self.holes)
        if not inside or list(self.holes) != sorted(set(self.holes)):
            raise ValueError(f"{self.path}: holes are not ascending ids of this shard")
        return self

    @property
    def num_rows(self) -> int:
        """Rows in the file."""
        return self.stop - self.start - len(self.holes)

    def sample_ids(self) -> npt.NDArray[np.int64]:
        """Return the sample id of each row, shape (num_rows,)."""
        ids = np.arange(self.start, self.stop, dtype=np.int64)
        return np.delete(ids, np.asarray(self.holes, dtype=np.int64) - self.start)


class Split(Frozen):
    """The shards of train or of val, in sample order."""

    shards: tuple[Shard, ...]

    @property
    def count(self) -> int:
        """Rows in all shards."""
        return sum(shard.num_rows for shard in self.shards)


class Reject(Frozen):
    """One image that could not be used, and why."""

    split: SplitName
    sample_id: Count
    archive: str
    member: str
    start: Count
    size_bytes: Count
    reason: str
    first_bytes: str
    """The first 16 bytes, in hex."""


class Manifest(Frozen):
    """Everything needed to read one committed dataset.

    The order of shards is the order of samples, so it is part of the identity.
    """

    schema_version: Literal[1] = 1
    name: str
    key: str
    """What the folder is named by: digest of the options and of the archives' indexes."""
    num_classes: Annotated[int, Field(ge=1)]
    height_px: Annotated[int, Field(ge=1)]
    """Of the square that statistics and evaluation are of; the shorter side of a stored image."""
    width_px: Annotated[int, Field(ge=1)]
    shape: ShapeName = "square"
    encoding: EncodingName = "jpeg"
    rows_per_group: Annotated[int, Field(ge=1)]
    train: Split
    val: Split
    classes: StoredObject
    statistics: StoredObject
    members: StoredObject
    rejects: StoredObject
    num_rejects: Count
    made_with: dict[str, str]
    """Library versions; in no digest."""
    options: dict[str, str | int | float] | None = None
    """Settings of `prepare` that it was made with, all that a repair needs; in no digest."""

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 over shard digests, classes and statistics: the dataset's identity."""
        return digest_of(
            {
                "classes": self.classes.sha256,
                "statistics": self.statistics.sha256,
                "train": [shard.sha256 for shard in self.train.shards],
                "val": [shard.sha256 for shard in self.val.shards],
            }
        )

    @property
    def stored_px(self) -> int:
        """Side of the square that statistics and evaluation are of, and `prepare.stored_px`."""
        return self.height_px

    @property
    def shards(self) -> tuple[Shard, ...]:
        """All shards, those of train first."""
        return (*self.train.shards, *self.val.shards)

    def split(self, name: SplitName) -> Split:
        """Return a split by name."""
        return self.train if name == "train" else self.val

    def objects(self) -> list[StoredObject]:
        """List every object the manifest vouches for."""
        files = [self.classes, self.statistics, self.members, self.rejects]
        return [*self.shards, *files]


def read_manifest(store: ObjectStore) -> Manifest | None:
    """Read the manifest of the dataset at a store, or None when none was committed.

    Raises:
        ManifestError: it cannot be understood, or is a newer version's.
    """
    body = read_receipt(store, MANIFEST)
    if body is None:
        return None
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        if newer := _newer_parts(error):
            raise ManifestError(
                f"{store.uri}/{MANIFEST} was written by a newer version of alexnet: it has {newer}",
                remedy="use that version, or a later one",
            ) from error
        raise ManifestError(
            f"{store.uri}/{MANIFEST} is not a manifest this version reads",
            remedy=RESTORED,
        ) from error


def _newer_parts(error: ValidationError) -> str:
    """Name what a later version has added, if nothing else is wrong; else the empty text."""
    errors = error.errors()
    for item in errors:
        if item["loc"] == ("schema_version",) and isinstance(item["input"], int):
            return f"schema_version {item['input']}" if item["input"] > 1 else ""
    if any(item["type"] != "extra_forbidden" for item in errors):
        return ""
    return ", ".join(sorted({str(item["loc"][-1]) for item in errors}))


def open_dataset(store: ObjectStore) -> Manifest:
    """Read the manifest and check by one listing that all it names is there.

    Raises:
        ManifestError: there is none, or it cannot be understood.
        ObjectCorrupt: an object is missing or has another size.
    """
    manifest = read_manifest(store)
    if manifest is None:
        raise ManifestError(
            f"{store.uri} holds no {MANIFEST}",
            remedy="name the folder of a committed dataset, or run `alexnet prepare`",
        )
    check_listing(store, manifest.objects())
    return manifest
