"""Which images a network is shown with: those that were named, or some of its validation split."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt

from alexnet.evaluate.blocks import Block, BlockReader, place_of, plan_blocks
from alexnet.evaluate.evaluation import Evaluation, read_predictions, validation_digest
from alexnet.figures.panel import PANEL_IMAGES, choose_rows
from alexnet.inference.decoding import read_image
from alexnet.inference.input_parts import InputPart, stream_parts
from alexnet.inference.model_probe import ModelProbe
from infra.store import ObjectStore, open_store
from preprocessing.dataset.labels import Classes, read_classes
from preprocessing.dataset.manifest import MANIFEST, Manifest, open_dataset
from preprocessing.dataset.pixels import Pixels, decode_square, to_square

MOST_IMAGES: Final = 12


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One image."""

    path: str
    place: tuple[str, int | None]
    """Of its file the URI, and in that the row, if it is one."""
    pixels: Pixels
    """(stored, stored, 3) for the network that looks at it."""
    label: int | None
    """Of the network's classes, where the true one is known and among them."""
    name: str
    """Of the true class, else of the file."""
    in_split: tuple[str, int] | None = None
    """Of its dataset the fingerprint, and its row of the validation split."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """What was named and is no image."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Chooser:
    """Chooses images of datasets for one network."""

    probe: ModelProbe
    classes: Classes
    """The network's."""
    stored_px: int
    evaluation: tuple[ObjectStore, Evaluation] | None
    """Of the network, where there is one: it knows already which images are right."""

    def named(self, named: Iterable[tuple[str, Sequence[InputPart]]]) -> Iterator[Shown | Rejected]:
        """Yield images of files in the order they were named, and some of each dataset."""
        for name, parts in named:
            store = open_store(name)
            if store.stat(MANIFEST) is not None:
                yield from self.of_dataset(store, open_dataset(store))
            else:
                yield from self._of_files(parts)

    def of_dataset(self, store: ObjectStore, manifest: Manifest) -> Iterator[Shown]:
        """Yield MOST_IMAGES of a validation split; the first of them are those of a report's panel.

        Chosen by `choose_rows`, half of them wrong: among all of the split where the network was
        evaluated on it, else among its first 64.
        """
        if not manifest.val.count:
            return
        theirs = read_classes(store, manifest.classes).classes
        ours = np.array([self.classes.label_of.get(entry.wnid, -1) for entry in theirs])
        reader = BlockReader(store, manifest)
        try:
            labels, right = self._known(manifest) or self._asked(reader, manifest, ours)
            panel = choose_rows(labels, right, PANEL_IMAGES)
            more = choose_rows(labels, right, MOST_IMAGES)
            for row in dict.fromkeys([*panel, *more]):
                stands = place_of(manifest.val, row)
                stored = reader.read(Block((stands,)))
                label = int(stored.labels[0])
                yield Shown(
                    path=f"{store.uri}#{row}",
                    place=(f"{store.uri}/{manifest.val.shards[stands.shard].path}", stands.start),
                    pixels=to_square(stored.decode()[0], self.stored_px),
                    label=int(ours[label]) if ours[label] >= 0 else None,
                    name=theirs[label].name,
                    in_split=(manifest.fingerprint, row),
                )
        finally:
            reader.close()

    def _known(
        self, manifest: Manifest
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]] | None:
        """Return each validation image's label, and whether it was right, as evaluated."""
        if self.evaluation is None:
            return None
        store, evaluation = self.evaluation
        if evaluation.validation_digest != validation_digest(manifest):
            return None
        table = read_predictions(store, evaluation, ["label", "center_rank"])
        return table["label"].to_numpy(), table["center_rank"].to_numpy() == 0

    def _asked(
        self, reader: BlockReader, manifest: Manifest, ours: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        rows = reader.read(plan_blocks(manifest.val)[0])
        images = [to_square(image, self.stored_px) for image in rows.decode()]
        answers = self.probe.probabilities(images).argmax(axis=1)
        return rows.labels, answers == ours[rows.labels]

    def _of_files(self, parts: Sequence[InputPart]) -> Iterator[Shown | Rejected]:
        decode = partial(decode_square, side_px=self.stored_px)
        for image in stream_parts(parts):
            file, pixels = read_image(image, decode)
            if pixels is None:
                yield Rejected(file.path, file.reason)
                continue
            place, name = (file.uri, file.row), PurePosixPath(file.path).name
            yield Shown(file.path, place, pixels, label=None, name=name)
