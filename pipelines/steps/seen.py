"""Which of our validation images a champion was trained on: it knows them by heart."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.commit import read_object
from infra.errors import DataError, RecipeError, StoreError
from infra.parquet import read_parquet
from infra.store import ObjectStore
from pipelines.datasets import find_dataset
from pipelines.steps.prepare import Dataset
from preprocessing.dataset.manifest import Manifest


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Validation images that count for nobody, and what there is to say of them."""

    sample_ids: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    note: str = ""


def seen_in_training(
    dataset: Dataset, fingerprint: str | None, places: Iterable[ObjectStore], champion: str
) -> Seen:
    """Find the validation images whose files are among those a champion was trained on.

    Args:
        dataset: whose validation images.
        fingerprint: of the champion's dataset, if it is known.
        places: workspaces where that may lie.
        champion: its version, for the note.
    """
    if fingerprint == dataset.manifest.fingerprint:
        return Seen()
    if fingerprint is None:
        return Seen(note=f"which images champion {champion} was trained on is not known")
    try:
        found = find_dataset(fingerprint, places)
        ids = None if found is None else ids_trained_on(dataset, *found)
    except (RecipeError, DataError, StoreError):
        ids = None
    if ids is None:
        return Seen(
            note=f"champion {champion} was trained on dataset {fingerprint[:12]}, which is not"
            " here: its training images may be among these"
        )
    if not len(ids):
        return Seen()
    return Seen(
        ids,
        f"held against champion {champion} without {len(ids):,} of {dataset.manifest.val.count:,}"
        " images, which it was trained on",
    )


def ids_trained_on(
    dataset: Dataset, theirs: ObjectStore, manifest: Manifest
) -> npt.NDArray[np.int64]:
    """Find which of a dataset's validation images are training images of another, by their files.

    Args:
        dataset: whose validation images.
        theirs: where the other lies.
        manifest: the other's.

    Raises:
        DataError: a list of members is damaged.
    """
    if manifest.fingerprint == dataset.manifest.fingerprint:
        return np.empty(0, np.int64)
    known = _members(theirs, manifest, split="train")["sha256"].combine_chunks()
    ours = _members(dataset.store, dataset.manifest, split="val")
    ids: npt.NDArray[np.int64] = (
        ours["sample_id"].filter(pc.is_in(ours["sha256"], value_set=known)).to_numpy()
    )
    return ids


def _members(store: ObjectStore, manifest: Manifest, *, split: str) -> pa.Table:
    columns = ["split", "sample_id", "sha256"]
    table = read_parquet(read_object(store, manifest.members), columns)
    return table.filter(pc.equal(table["split"].cast(pa.string()), split))
