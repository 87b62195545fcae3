"""What `alexnet inspect DATASET` says of how well classes are mixed."""

from dataclasses import asdict
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from alexnet.data.order import Ints, Layout
from alexnet.data.reader import order_of
from alexnet.data.shuffle_quality import Mixing, batch_of_rows, mixing_of
from infra.commit import read_object
from infra.parquet import read_parquet
from infra.store import ObjectStore
from preprocessing.dataset.labels import read_classes
from preprocessing.dataset.manifest import Manifest

SEED: Final = 0
GLOBAL_BATCH: Final = 256
"""What the batches are that are looked at: no training's in particular."""


def shuffle_quality(store: ObjectStore, manifest: Manifest) -> dict[str, Any]:
    """Compare shards, row groups and global batches of the train split with a uniform shuffle.

    Raises:
        ObjectCorrupt: the list of members is damaged.
    """
    labels = _labels(store, manifest)
    if not len(labels):
        return {}
    order = order_of(manifest, SEED, GLOBAL_BATCH, "reshuffled")
    shards = np.repeat(np.arange(len(order.layout.shard_rows)), order.layout.shard_rows)
    return {
        "per_shard": _fields(mixing_of(labels, _numbered(shards))),
        "per_row_group": _fields(mixing_of(labels, _groups(order.layout))),
        "per_global_batch": {
            "global_batch": GLOBAL_BATCH,
            "seed": SEED,
            **_fields(mixing_of(labels, batch_of_rows(order))),
        },
    }


def _labels(store: ObjectStore, manifest: Manifest) -> Ints:
    """Return the labels of the train split's rows, from the list of members less the rejects."""
    columns = ["split", "sample_id", "wnid"]
    table = read_parquet(read_object(store, manifest.members), columns)
    table = table.filter(pc.equal(table["split"], "train")).sort_by("sample_id")
    wnids = table["wnid"].combine_chunks().dictionary_encode()
    label_of = read_classes(store, manifest.classes).label_of
    labels = np.array([label_of[wnid] for wnid in wnids.dictionary.to_pylist()], np.int64)
    ids = [shard.sample_ids() for shard in manifest.train.shards]
    kept = np.isin(table["sample_id"].to_numpy(), np.concatenate([*ids, np.empty(0, np.int64)]))
    return labels[wnids.indices.to_numpy()][kept]


def _groups(layout: Layout) -> Ints:
    return np.repeat(np.arange(len(layout.groups)), layout.groups[:, 2])


def _numbered(groups: Ints) -> Ints:
    """Count groups anew, without those that hold nothing."""
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _fields(mixing: Mixing) -> dict[str, Any]:
    fields = {name: round(value, 4) for name, value in asdict(mixing).items()}
    return {**fields, "ratio": round(mixing.ratio, 4)}
