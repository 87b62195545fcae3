"""Class key (WNID, or a folder's name) ↔ label: the one place that knows the order."""

from collections import Counter
from collections.abc import Mapping
from functools import cached_property

from pydantic import Field, model_validator

from infra.commit import Frozen, StoredObject, parse_receipt, read_object
from infra.store import ObjectStore
from preprocessing.errors import ANEW, ManifestError


class ClassEntry(Frozen):
    """One class."""

    label: int = Field(ge=0)
    wnid: str
    """WordNet id; a folder's name where a dataset has no WordNet ids."""
    name: str
    """What people call it; unique in its dataset."""


class Classes(Frozen):
    """The classes of a dataset, in label order: labels are ranks of the sorted keys."""

    classes: tuple[ClassEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _labels_are_ranks(self) -> "Classes":
        wnids = [entry.wnid for entry in self.classes]
        if wnids != sorted(set(wnids)):
            raise ValueError("classes are not sorted by key, or one stands there twice")
        if [entry.label for entry in self.classes] != list(range(len(wnids))):
            raise ValueError("labels are not 0, 1, 2, …")
        return self

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in label order."""
        return tuple(entry.name for entry in self.classes)

    @cached_property
    def label_of(self) -> Mapping[str, int]:
        """Label by class key."""
        return {entry.wnid: entry.label for entry in self.classes}


def make_classes(names: Mapping[str, str]) -> Classes:
    """Give classes their labels: ranks of their sorted keys.

    Args:
        names: by key.

    ImageNet has two classes called "crane": a name that occurs twice gets its key in brackets.
    """
    times = Counter(names.values())
    entries = [
        ClassEntry(
            label=label,
            wnid=wnid,
            name=names[wnid] if times[names[wnid]] == 1 else f"{names[wnid]} ({wnid})",
        )
        for label, wnid in enumerate(sorted(names))
    ]
    return Classes(classes=tuple(entries))


def read_classes(store: ObjectStore, expected: StoredObject) -> Classes:
    """Read a dataset's classes, digest checked; `expected` is `manifest.classes`.

    Raises:
        ObjectCorrupt: missing, or other bytes than the manifest names.
        ManifestError: it cannot be understood.
    """
    body, where = read_object(store, expected), f"{store.uri}/{expected.path}"
    return parse_receipt(Classes, body, where, raised=ManifestError, remedy=ANEW)
