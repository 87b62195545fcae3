"""The picture of the images that are shown beside those a network takes as most like them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from alexnet.figures.neighbours import MOST_ROWS, Tile, draw_neighbours
from alexnet.inference.decoding import read_again
from alexnet.inference.layer_outputs import choose_layer
from alexnet.inference.model_probe import ModelProbe
from alexnet.inference.split_neighbours import NEIGHBOURS, nearest_in_split
from alexnet.trained import TrainedNetwork
from infra.progress import StatusLine
from infra.store import ObjectStore, open_store
from pipelines.inference.nearest import Among, Asker, Search, refuse_other_model
from pipelines.inference.shown_images import Shown
from pipelines.inference.similarity_answer import FoundImage
from preprocessing.dataset.labels import Classes, read_classes
from preprocessing.dataset.manifest import MANIFEST, Manifest, open_dataset

_NO_DATASET = (
    "no validation images of the dataset it was trained on were found in the workspace: name others"
    " with --among"
)


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Draws images beside the nearest to them: of a validation split, or of what was named."""

    uri: str
    """The model's."""
    trained: TrainedNetwork
    probe: ModelProbe
    workspace: str
    stream: IO[str]

    def of_split(
        self, shown: Sequence[Shown], dataset: tuple[ObjectStore, Manifest] | None
    ) -> bytes | str:
        """Draw the nearest of the validation split, or say why there are none.

        Args:
            shown: at least one; the first MOST_ROWS are drawn.
            dataset: the one that the network was trained on, where it was found.
        """
        if dataset is None or not dataset[1].val.count:
            return _NO_DATASET
        store, manifest = dataset
        shown = shown[:MOST_ROWS]
        pixels = [image.pixels for image in shown]
        own = [_row_in(manifest, image) for image in shown]
        progress = StatusLine("similar", self.stream)
        try:
            found = nearest_in_split(self.probe, pixels, own, store, manifest, progress)
        finally:
            progress.close()
        names = self.trained.load_classes().names
        rows = [
            [Tile(near.pixels, names[near.label], near.label == image.label) for near in of_image]
            for image, of_image in zip(shown, found, strict=True)
        ]
        return self._drawn(shown, rows, self.probe.hidden_layer, store.uri)

    def elsewhere(
        self, shown: Sequence[Shown], among: Among, rejected: list[tuple[str, str]]
    ) -> bytes | str:
        """Draw the nearest of what was named, or say why there are none.

        Args:
            shown: at least one; the first MOST_ROWS are drawn.
            among: what is looked through; features may be of any layer.
            rejected: gets path and reason of what is no image there.

        Raises:
            RecipeError: features of another model.
            InputRejected: none is an image.
        """
        shown = shown[:MOST_ROWS]
        written = among.written
        layer, width = choose_layer(self.trained, None if written is None else written.header.layer)
        asker = Asker(self.uri, self.trained, layer, width, open_store(self.workspace), self.stream)
        if written is not None:
            refuse_other_model(written, asker.header)
        features = self.probe.layer_outputs([image.pixels for image in shown], layer)
        search = Search(features, NEIGHBOURS + 1)
        search.look_through(among, asker, rejected)
        names = _Names(self.trained.load_classes(), among.named)
        rows = [
            [self._tile(near, image, names) for near in of_image if near.place != image.place]
            for image, of_image in zip(shown, search.neighbours, strict=True)
        ]
        return self._drawn(shown, rows, layer, among.named)

    def _tile(self, near: FoundImage, image: Shown, names: "_Names") -> Tile:
        name, label = names.of(near)
        picture = read_again(near.uri, near.row, self.trained.stored_px)
        return Tile(picture, name, label is not None and label == image.label)

    def _drawn(
        self, shown: Sequence[Shown], rows: Sequence[Sequence[Tile]], layer: str, place: str
    ) -> bytes | str:
        width = min(NEIGHBOURS, *map(len, rows))
        if not width:
            return f"{place} has no other image"
        whole = [
            [Tile(image.pixels, image.name), *row[:width]]
            for image, row in zip(shown, rows, strict=True)
        ]
        return draw_neighbours(whole, self.trained.stored_px, layer)


class _Names:
    """What images are called: in a dataset after their class, elsewhere after their file."""

    def __init__(self, ours: Classes, named: str) -> None:
        self._ours = ours
        self._theirs: Classes | None = None
        store = open_store(named)
        if store.stat(MANIFEST) is not None:
            self._theirs = read_classes(store, open_dataset(store).classes)

    def of(self, image: FoundImage) -> tuple[str, int | None]:
        """Return an image's name, and its class's label among the network's own."""
        if self._theirs is None or image.label is None:
            return PurePosixPath(image.path).name, None
        entry = self._theirs.classes[image.label]
        return entry.name, self._ours.label_of.get(entry.wnid)


def _row_in(manifest: Manifest, image: Shown) -> int | None:
    """Return an image's row of the validation split, wherever a copy of the dataset lies."""
    fingerprint, row = image.in_split or ("", 0)
    return row if fingerprint == manifest.fingerprint else None
