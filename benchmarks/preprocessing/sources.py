"""What is prepared: archives as they are given, and tars that are made by repeating images."""

import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from infra.store import FolderStore
from preprocessing.prepare import plan_dataset
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.fetch import read_members
from preprocessing.sources.members import Member
from preprocessing.sources.source import read_index

MAX_REJECTS = 100
"""Images that may fail to decode: ilsvrc-mini has one, and is repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Images in tars, and how they are stored."""

    name: str
    dataset: DatasetSettings
    options: PrepareSettings
    tars: tuple[Path, ...]

    def index(self, workspace: Path) -> DatasetIndex:
        """Read the headers, or what a workspace keeps of them."""
        return read_index(self.dataset, self.options, FolderStore(workspace))

    def members(self, workspace: Path) -> list[Member]:
        """Return every image in the order in which a build takes them."""
        plan = plan_dataset(self.index(workspace), self.options)
        return [member for planned in plan for member in planned.members]


def given_archives(folder: str, options: PrepareSettings) -> Source:
    """Describe a folder of the three official archives."""
    return Source(
        name=Path(folder).name,
        dataset=DatasetSettings(name="speed", archives=folder),
        options=options,
        tars=tuple(sorted(Path(folder).glob("*.tar"))),
    )


def repeated_photographs(
    photographs: Path, count: int, folder: Path, options: PrepareSettings
) -> Source:
    """Repeat the photographs of a folder, as `repeated_archives` repeats images."""
    paths = sorted(
        path for path in photographs.iterdir() if path.suffix.lower() in (".jpeg", ".jpg")
    )
    bodies = [(path.stem, path.read_bytes()) for path in paths]
    return _repeated(photographs.name, bodies, count, folder, options)


def repeated_archives(archives: str, count: int, folder: Path, options: PrepareSettings) -> Source:
    """Write WebDataset tars of so many members: the images of archives, again and again.

    Each has a name of its own; one in twenty is for validation.
    """
    index = given_archives(archives, options).index(folder / "index")
    bodies = [
        (Path(member.name).stem, body)
        for member, body in islice(read_members(index.store, index.members), count)
    ]
    return _repeated(Path(archives).name, bodies, count, folder / "tars", options)


def _repeated(
    name: str,
    bodies: Sequence[tuple[str, bytes]],
    count: int,
    folder: Path,
    options: PrepareSettings,
) -> Source:
    folder.mkdir(parents=True)
    num_val = count // 20
    _write_tar(folder / "val-0.tar", islice(_numbered(bodies), num_val))
    _write_tar(folder / "train-0.tar", islice(_numbered(bodies), num_val, count))
    return Source(
        name=name,
        dataset=DatasetSettings(name="speed", webdataset=str(folder)),
        options=options,
        tars=(folder / "train-0.tar", folder / "val-0.tar"),
    )


def _numbered(bodies: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    return ((f"{i:06}-{stem}", body) for i, (stem, body) in enumerate(cycle(bodies)))


def _write_tar(target: Path, samples: Iterable[tuple[str, bytes]]) -> None:
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (key, image) in enumerate(samples):
            for name, body in (
                (f"{key}.jpg", image),
                (f"{key}.cls", str(number % 10).encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
