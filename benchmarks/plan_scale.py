"""Plan real ImageNet's numbers without its pictures: seconds and memory, by the part.

    python -m benchmarks.plan_scale

The index is made up: 1,281,167 + 50,000 members, with as many images a class as ILSVRC-2012 has
(895 classes of 1,300, the others from 732 up).
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.preprocessing.measured import peak_memory_bytes
from infra.store import MemoryStore
from preprocessing.building.plan import plan_split
from preprocessing.dataset.labels import make_classes
from preprocessing.prepare import dataset_key, plan_dataset
from preprocessing.settings import PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.members import Members

NUM_TRAIN: Final = 1_281_167
NUM_VAL: Final = 50_000
_MEAN_BYTES: Final = 110_000


def class_counts() -> npt.NDArray[np.int64]:
    """Return images a class, (1000,): the published total, extremes and number of full classes."""
    full, few = 895, 105
    rising = np.floor(732 + 567 * (np.arange(few) / (few - 1)) ** 0.459).astype(np.int64)
    missing = NUM_TRAIN - full * 1300 - int(rising.sum())
    step, rest = divmod(missing, few - 2)
    rising[1:-1] += step
    rising[1 : 1 + rest] += 1
    return np.concatenate([rising, np.full(full, 1300)])


def made_up_index(share: float = 1.0) -> DatasetIndex:
    """Return an index of as many members, or of a share of them."""
    counts = np.maximum(1, (class_counts() * share).astype(np.int64))
    wnids = np.array([f"n{i:08}" for i in range(len(counts))], object)
    owner = np.repeat(np.arange(len(counts)), counts)
    train = [f"{wnids[i]}_{row}.JPEG" for row, i in enumerate(owner)]
    num_val = int(NUM_VAL * share)
    val = [f"ILSVRC2012_val_{row:08}.JPEG" for row in range(1, num_val + 1)]
    rng = np.random.default_rng(0)
    sizes = rng.integers(2_000, 2 * _MEAN_BYTES, len(train) + num_val)
    table = pa.table(
        {
            "split": ["train"] * len(train) + ["val"] * num_val,
            "archive": ["ILSVRC2012_img_train.tar"] * len(train)
            + ["ILSVRC2012_img_val.tar"] * num_val,
            "name": train + val,
            "start": np.cumsum(sizes) - sizes,
            "size_bytes": sizes,
            "wnid": [*wnids[owner], *wnids[rng.integers(0, len(wnids), num_val)]],
            "sha256": pa.nulls(len(sizes), pa.string()),
        },
        schema=Members.schema(),
    )
    classes = make_classes({wnid: f"class {wnid}" for wnid in wnids})
    return DatasetIndex(MemoryStore(), Members(table), classes, ())


def measure(share: float = 1.0) -> dict[str, Any]:
    """Plan a made-up index; return seconds by part, shards, and memory in MiB."""
    seconds: dict[str, float] = {}

    def timed(part: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it returns
        started_s = time.perf_counter()
        result = work()
        seconds[part] = round(time.perf_counter() - started_s, 2)
        return result

    prepare = PrepareSettings()
    index = timed("index made up", lambda: made_up_index(share))
    before = _peak_mib()
    timed("key of the dataset", lambda: dataset_key(index, prepare))
    plan = timed("plan of both splits", lambda: plan_dataset(index, prepare))
    timed("plan of val alone", lambda: plan_split(index.members, "val", seed=0, rows_per_shard=64))
    return {
        "images": len(index.members),
        "shards": len(plan),
        "seconds": seconds,
        "peak_mib": round(_peak_mib()),
        "peak_of_the_index_mib": round(before),
    }


def _peak_mib() -> float:
    own = peak_memory_bytes(os.getpid())
    if own is not None:
        return own / (1 << 20)
    # Elsewhere than on Linux; there it would count what the process was before exec, too.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_scale", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of ImageNet's images")
    json.dump(measure(parser.parse_args().share), sys.stdout, indent=1)
    print()
