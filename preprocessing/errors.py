"""The branch of the error tree that preprocessing has: data that is wrong (exit code 3)."""

from typing import Final

from infra.errors import DataError

ANEW: Final = (
    "read it with the version that made it, or delete the dataset's folder and prepare it anew"
)
"""The way out for what is whole and not understood: prepare alone would take it as it is."""


class ArchiveMissing(DataError):
    """An archive or a folder of images is not where the recipe says."""


class ArchiveCorrupt(DataError):
    """An archive is cut off, or is no tar."""


class DevkitMismatch(DataError):
    """The development kit does not fit the archives, or cannot be read."""


class ImageRejected(DataError):
    """One image cannot be decoded; its text is the reason the quarantine keeps."""


class TooManyRejects(DataError):
    """More images were rejected than `prepare.max_rejects` allows."""


class ManifestError(DataError):
    """A manifest contradicts itself, or is not the one that was asked for."""


class ShardCorrupt(DataError):
    """A shard's bytes are damaged."""
