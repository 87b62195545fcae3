"""The images of a validation split that a network takes as most like some others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from alexnet.evaluate.blocks import Block, BlockReader, place_of, plan_blocks
from alexnet.evaluate.scores import SCORE_BATCH_ROWS
from alexnet.inference.model_probe import ModelProbe
from alexnet.inference.neighbours import NearestSearch
from infra.progress import ProgressReport, no_progress
from infra.store import ObjectStore
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.pixels import Pixels

NEIGHBOURS: Final = 6
"""An image, as in figure 4 of the 2012 paper."""
MOST_AMONG: Final = 32 * SCORE_BATCH_ROWS
"""Images that are looked through: the first of the split, whose order is a random one. The network
of 2012 takes one core 20 ms for each."""


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """An image of the split."""

    row: int
    label: int
    pixels: Pixels
    """(stored, stored, 3), as it is stored."""
    distance: float
    """Euclidean, of the features."""


def num_among(manifest: Manifest) -> int:
    """Return how many images of the validation split are looked through."""
    return min(MOST_AMONG, manifest.val.count)


def nearest_in_split(
    probe: ModelProbe,
    images: Sequence[Pixels],
    own_rows: Sequence[int | None],
    dataset: ObjectStore,
    manifest: Manifest,
    progress: ProgressReport = no_progress,
) -> list[tuple[Near, ...]]:
    """Find each image's NEIGHBOURS nearest of the last hidden layer, nearest first.

    Exact among the first MOST_AMONG; fewer than NEIGHBOURS where there are no more.

    Args:
        probe: the network.
        images: stored ones, at least one.
        own_rows: of each image its row in the split, which is not its own neighbour; or None.
        dataset: the one that the network was trained on.
        manifest: its.
        progress: gets images looked through, and in all.

    Raises:
        ShardCorrupt: stored bytes are damaged.
        DataError: the network gives no numbers.
    """
    reader = BlockReader(dataset, manifest)
    search = NearestSearch(probe.features(images), NEIGHBOURS + 1)  # one may be the image itself
    done = 0
    try:
        for block in plan_blocks(manifest.val)[: MOST_AMONG // SCORE_BATCH_ROWS]:
            search.add(probe.features(list(reader.read(block).decode())))
            done += block.count
            progress(done, num_among(manifest))
        found = search.found
        chosen = [
            [(row, far) for row, far in zip(rows, distances, strict=True) if row != own]
            for rows, distances, own in zip(
                found.rows.tolist(), found.distances.tolist(), own_rows, strict=True
            )
        ]
        return [
            tuple(_near(reader, manifest, row, far) for row, far in of_image[:NEIGHBOURS])
            for of_image in chosen
        ]
    finally:
        reader.close()


def _near(reader: BlockReader, manifest: Manifest, row: int, distance: float) -> Near:
    stored = reader.read(Block((place_of(manifest.val, row),)))
    return Near(row, int(stored.labels[0]), np.asarray(stored.decode()[0]), distance)
