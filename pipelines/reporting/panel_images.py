"""The panel of a report: validation images, what the network answers, and what is near for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from alexnet.evaluate.blocks import Block, BlockReader, StoredRows, place_of
from alexnet.evaluate.evaluation import Evaluation, read_predictions
from alexnet.figures.panel import Guess, best_guesses, choose_rows
from alexnet.inference.model_probe import ModelProbe
from alexnet.inference.split_neighbours import Near, nearest_in_split
from infra.progress import ProgressReport
from infra.store import ObjectStore
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.pixels import Pixels
from preprocessing.dataset.stored import encode_jpeg


@dataclass(frozen=True, slots=True, eq=False)
class PanelImage:
    """A validation image as it is stored, and what the network takes it for (centre view)."""

    jpeg: bytes
    label: int
    rank: int
    """Classes that stand before the true one."""
    guesses: tuple[Guess, ...]
    pixels: Pixels
    """(stored, stored, 3), as evaluation saw it."""
    near: tuple[Near, ...] = ()
    """The validation images that the network takes as most like it."""


def read_panel(
    dataset: ObjectStore,
    manifest: Manifest,
    evaluated: ObjectStore,
    evaluation: Evaluation,
    probe: ModelProbe,
    progress: ProgressReport,
) -> list[PanelImage]:
    """Choose and read the panel, and find its images' neighbours.

    Args:
        dataset, manifest: what the network was trained on.
        evaluated, evaluation: how it was evaluated.
        probe: the network.
        progress: gets the images that were looked through for neighbours, and in all.
    """
    columns = ["label", "center_rank", "center_probabilities"]
    table = read_predictions(evaluated, evaluation, columns)
    labels, ranks = table["label"].to_numpy(), table["center_rank"].to_numpy()
    rows = choose_rows(labels, ranks == 0)
    images = list(_stored_images(dataset, manifest, rows))
    pixels = [decoded for _, decoded in images]
    near = nearest_in_split(probe, pixels, rows, dataset, manifest, progress)
    probabilities = table["center_probabilities"].take(pa.array(rows, pa.int64()))
    return [
        PanelImage(
            jpeg=jpeg,
            label=int(labels[row]),
            rank=int(ranks[row]),
            guesses=tuple(best_guesses(of_image.values.to_numpy(zero_copy_only=False))),
            pixels=decoded,
            near=of_row,
        )
        for row, (jpeg, decoded), of_image, of_row in zip(
            rows, images, probabilities, near, strict=True
        )
    ]


def _stored_images(
    dataset: ObjectStore, manifest: Manifest, rows: Sequence[int]
) -> Iterator[tuple[bytes, Pixels]]:
    """Read some rows of the val split, ascending: a JPEG and the pixels of what evaluation saw."""
    reader = BlockReader(dataset, manifest)
    try:
        for row in rows:
            stored = reader.read(Block((place_of(manifest.val, row),)))
            pixels = stored.decode()[0]
            yield _as_jpeg(stored, pixels, manifest), pixels
    finally:
        reader.close()


def _as_jpeg(stored: StoredRows, pixels: Pixels, manifest: Manifest) -> bytes:
    if (manifest.shape, manifest.encoding) == ("square", "jpeg"):
        return stored.encoded[0].tobytes()
    return encode_jpeg(pixels, quality=90)
