"""Images are asked for a layer's features, and the nearest of others are found and remembered."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alexnet.inference.features import FeatureSpec, features_of
from alexnet.inference.features_file import FeaturesFile, FeaturesHeader, open_features
from alexnet.inference.input_parts import InputPart
from alexnet.inference.inputs import find_parts
from alexnet.inference.neighbours import NearestSearch
from alexnet.trained import TrainedNetwork
from infra.errors import RecipeError
from infra.progress import StatusLine
from infra.store import ObjectStore, open_parent
from pipelines.inference.answers import answered, refuse_if_none
from pipelines.inference.extraction import describe_features, without_rejects
from pipelines.inference.similarity_answer import FoundImage


@dataclass(frozen=True, slots=True)
class Among:
    """What is looked through: features that were written before, or images."""

    named: str
    written: FeaturesFile | None
    parts: Sequence[InputPart]


def open_among(among: str) -> Among:
    """Find what is looked through.

    Args:
        among: a file of features that `alexnet features` wrote; or a dataset (its training split),
            a folder or a Parquet file of images.

    Raises:
        InputRejected: there is no such place.
        DataError: features of another version, or a dataset that is not whole.
    """
    written = open_features(*open_parent(among))
    return Among(among, written, [] if written is not None else find_parts([among], "train"))


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks a model for a layer's activations."""

    uri: str
    trained: TrainedNetwork
    layer: str
    width: int
    workspace: ObjectStore
    stream: IO[str]

    @property
    def header(self) -> FeaturesHeader:
        """Whose features it gets."""
        return describe_features(self.uri, self.trained, self.layer, self.width)

    @contextmanager
    def features(
        self, parts: Sequence[InputPart], stage: str, rejected: list[tuple[str, str]]
    ) -> Iterator[Iterator[pa.Table]]:
        """Give the block tables of features; note what is no image in the list."""
        spec, progress = FeatureSpec(self.layer, self.width), StatusLine(stage, self.stream)
        with answered(
            self.uri, self.trained, parts, spec, self.workspace, progress, self.stream
        ) as answers:
            yield without_rejects(answers, rejected)


class Search:
    """A search that remembers where the nearest images lie, and of no other.

    Args:
        features: (queries, width).
        count: neighbours a query.
    """

    def __init__(self, features: npt.NDArray[np.float32], count: int) -> None:
        self._nearest = NearestSearch(features, count)
        self._found: dict[int, FoundImage] = {}
        self._num_rows = 0

    def look_through(self, among: Among, asker: Asker, passed_over: list[tuple[str, str]]) -> None:
        """Look at all images; note what is none in the list.

        Raises:
            InputRejected: none is an image.
        """
        if among.written is not None:
            self._scan(among.written, StatusLine("similar", asker.stream))
            return
        with asker.features(among.parts, "similar", passed_over) as tables:
            for table in tables:
                self._add(table)
        refuse_if_none(self._num_rows, passed_over)

    @property
    def neighbours(self) -> list[list[FoundImage]]:
        """Of each query its nearest, nearest first."""
        return [[self._found[row] for row in rows] for rows in self._nearest.found.rows.tolist()]

    @property
    def distances(self) -> npt.NDArray[np.float64]:
        """How far these are, (queries, neighbours)."""
        return self._nearest.found.distances

    def _scan(self, written: FeaturesFile, progress: StatusLine) -> None:
        total = written.num_rows()
        try:
            for table in written.tables():
                self._add(table)
                progress(self._num_rows, total)
        finally:
            progress.close()

    def _add(self, table: pa.Table) -> None:
        self._nearest.add(features_of(table))
        start, self._num_rows = self._num_rows, self._num_rows + len(table)
        rows = np.unique(self._nearest.found.rows)
        new = rows[rows >= start]
        found = zip(new.tolist(), found_in(table.take(new - start)), strict=True)
        kept = {row: self._found[row] for row in rows[rows < start].tolist()}
        self._found = kept | dict(found)


def found_in(table: pa.Table) -> list[FoundImage]:
    """Say where each image of a table of features lies."""
    columns = (table[name].to_pylist() for name in ("path", "uri", "row", "label"))
    return [FoundImage(*image) for image in zip(*columns, strict=True)]


def refuse_other_model(written: FeaturesFile, header: FeaturesHeader) -> None:
    """Raise RecipeError if features are not those of the model that is described."""
    theirs = written.header
    if theirs.model_digest != header.model_digest:
        raise RecipeError(
            f"{written.uri} holds features of another model, {theirs.model} ({theirs.network},"
            f" step {theirs.step:,})",
            remedy=f"ask that model, or write the features of {header.model} anew",
        )
