"""Stage 1 of 11, archives: find the source tars."""

from pathlib import Path
from typing import Final

from infra.commit import Frozen
from infra.store import FolderStore, ObjectInfo, ObjectStore
from preprocessing.errors import ArchiveMissing

TRAIN_ARCHIVE: Final = "ILSVRC2012_img_train.tar"
VAL_ARCHIVE: Final = "ILSVRC2012_img_val.tar"
DEVKIT_ARCHIVE: Final = "ILSVRC2012_devkit_t12.tar.gz"


class SourceFile(Frozen):
    """One file images come from, as its store shows it; `version` is its ETag or mtime."""

    name: str
    size_bytes: int
    version: str

    @classmethod
    def of(cls, info: ObjectInfo) -> "SourceFile":
        """Return what a listing shows of a file."""
        return cls(name=info.key, size_bytes=info.size_bytes, version=info.version)


def find_archives(store: ObjectStore) -> tuple[SourceFile, ...]:
    """Describe the three official archives: train, val, devkit.

    Raises:
        ArchiveMissing: one is not there.
    """
    return find_files(
        store,
        (TRAIN_ARCHIVE, VAL_ARCHIVE, DEVKIT_ARCHIVE),
        remedy=f"put {TRAIN_ARCHIVE}, {VAL_ARCHIVE} and {DEVKIT_ARCHIVE} there, or name their place"
        " in dataset.archives",
    )


def find_files(
    store: ObjectStore, names: tuple[str, ...], *, remedy: str
) -> tuple[SourceFile, ...]:
    """Describe files by name.

    Raises:
        ArchiveMissing: one is not there.
    """
    found: list[SourceFile] = []
    for name in names:
        info = store.stat(name)
        if info is None:
            problem = problem_of_folder(store) or f"holds no {name}"
            raise ArchiveMissing(f"{store.uri} {problem}", remedy=remedy)
        found.append(SourceFile.of(info))
    return tuple(found)


def problem_of_folder(store: ObjectStore) -> str | None:
    """Say what is wrong with a directory that holds nothing; S3 has none, so nothing is known."""
    if isinstance(store, FolderStore):
        path = Path(store.uri)
        if not path.exists():
            return "does not exist"
        if not path.is_dir():
            return "is no folder"
    return None
