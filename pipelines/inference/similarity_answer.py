"""The images nearest to each of some: as fields, as a table, as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alexnet.figures.pixels import Picture, picture_png
from alexnet.figures.similar import similar_picture
from alexnet.inference.decoding import read_again
from alexnet.inference.features_file import FeaturesHeader


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image and where it lies."""

    path: str
    uri: str
    row: int | None
    label: int | None

    @property
    def place(self) -> tuple[str, int | None]:
        """What no other image has."""
        return self.uri, self.row


@dataclass(frozen=True, slots=True, eq=False)
class Similar:
    """The nearest images of each one asked about."""

    header: FeaturesHeader
    """Whose features were compared."""
    among: str
    queries: Sequence[FoundImage]
    neighbours: Sequence[Sequence[FoundImage]]
    """Of each query, nearest first."""
    distances: npt.NDArray[np.float64]
    """(queries, neighbours)."""
    rejected: Sequence[tuple[str, str]]
    """Path and reason of what is no image, of those asked about and of those looked through."""

    @property
    def table(self) -> pa.Table:
        """A row a neighbour: query, place (from 1), path, distance, label, uri, row."""
        count = self.distances.shape[1]
        found = [image for row in self.neighbours for image in row]
        return pa.table(
            {
                "query": pa.array(
                    [query.path for query in self.queries for _ in range(count)], pa.string()
                ),
                "place": np.tile(np.arange(1, count + 1), len(self.queries)),
                "path": pa.array([image.path for image in found], pa.string()),
                "distance": self.distances.reshape(-1),
                "label": pa.array([image.label for image in found], pa.int64()),
                "uri": pa.array([image.uri for image in found], pa.string()),
                "row": pa.array([image.row for image in found], pa.int64()),
            }
        )

    def fields(self, *, output: str | None, picture: str | None) -> dict[str, Any]:
        """Describe it as `similar --json` does."""
        rows = self.table.select(["path", "distance", "label", "uri", "row"]).to_pylist()
        count = self.distances.shape[1]
        return {
            "model": self.header.model,
            "global_step": self.header.step,
            "layer": self.header.layer,
            "among": self.among,
            "output": output,
            "picture": picture,
            "count": len(self.queries),
            "num_rejected": len(self.rejected),
            "queries": [
                {"path": query.path, "neighbours": rows[number * count : (number + 1) * count]}
                for number, query in enumerate(self.queries)
            ],
            "rejected": [{"path": path, "reason": reason} for path, reason in self.rejected],
        }


@dataclass(frozen=True, slots=True)
class DrawnSimilar:
    """Queries and their neighbours as a picture."""

    png: bytes
    num_gone: int
    """Images that are grey: features outlive the images they are of."""


def draw_similar(similar: Similar, stored_px: int) -> DrawnSimilar:
    """Draw it, squares as the network was shown them."""
    rows: list[list[Picture | None]] = [
        [read_again(image.uri, image.row, stored_px) for image in (query, *nearest)]
        for query, nearest in zip(similar.queries, similar.neighbours, strict=True)
    ]
    num_gone = sum(image is None for row in rows for image in row)
    return DrawnSimilar(picture_png(similar_picture(rows, stored_px)), num_gone)
