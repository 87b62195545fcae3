"""Every image there is, where it lies, and what the classes are: what the plan is made of."""

from dataclasses import dataclass
from functools import cached_property

from infra.canonical import digest_of
from infra.store import ObjectStore
from preprocessing.dataset.labels import Classes
from preprocessing.sources.archives import SourceFile
from preprocessing.sources.members import Members, SplitName


@dataclass(frozen=True)
class DatasetIndex:
    """Every image there is, where it lies, and what the classes are."""

    store: ObjectStore
    """Where the members' archives are."""
    members: Members
    classes: Classes
    sources: tuple[SourceFile, ...]
    """The files themselves; with their versions they are the source's identity.

    They lie at the store, unless their images had to be unpacked into it.
    """

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of members and classes; the same wherever and whenever the archives are."""
        return digest_of({"members": self.members.digest(), "classes": self.classes.model_dump()})

    @cached_property
    def source_digest(self) -> str:
        """Hex SHA-256 of the files' names, sizes and versions."""
        return digest_of([source.model_dump() for source in self.sources])

    @property
    def an_archive(self) -> str:
        """Name one object at the store: whoever sees that sees the images."""
        return self.members.table["archive"][0].as_py()

    def count(self, split: SplitName) -> int:
        """Members of one split."""
        return len(self.members.of_split(split))
