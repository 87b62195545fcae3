"""Classify many images, a block of 64 at a time; what is no image is a row with the reason.

Blocks are those of evaluation: floating-point bits change with the shape of a batch and the number
of threads, so what is computed together depends on what was asked for, not on who computes it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from alexnet.evaluate.metrics import refuse_diverged
from alexnet.evaluate.rows import View
from alexnet.inference.decoding import DecodedImage, decoded_blocks
from alexnet.inference.input_parts import InputPart
from alexnet.inference.predictor import Predictor, best_five
from alexnet.threads import one_thread
from alexnet.trained import TrainedNetwork

ANSWERS: Final = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.int64())),
        pa.field("probabilities", pa.list_(pa.float64())),
        pa.field("reason", pa.string()),
    ]
)
"""A row an image: the best five classes, best first, or the reason why it is no image."""
ALL_PROBABILITIES: Final = pa.field("all_probabilities", pa.list_(pa.float32()))
"""Beside them if asked for: those of every class, in the order of labels."""

_CROPS: Final[dict[View, int]] = {"center": 1, "ten_crop": 10, "nine_crop": 9}


@dataclass(frozen=True, slots=True)
class ClassifySpec:
    """Compute the best five classes; an `InferenceSpec`."""

    view: View = "center"
    all_probabilities: bool = False
    """Keep those of every class too."""

    @property
    def schema(self) -> pa.Schema:
        """Of the answers."""
        return ANSWERS.insert(3, ALL_PROBABILITIES) if self.all_probabilities else ANSWERS

    @property
    def num_views(self) -> int:
        """Forward passes an image takes."""
        return _CROPS[self.view]

    def runner(self, trained: TrainedNetwork, *, num_threads: int) -> "BatchClassifier":
        """Load the network."""
        return BatchClassifier(trained, self, num_threads=num_threads)


class BatchClassifier:
    """Classifies parts with one network, on one device; one block is decoded ahead.

    Args:
        trained: the network.
        spec: which crops, and what is kept of them.
        num_threads: that read and decode; the answers do not depend on it.
    """

    def __init__(self, trained: TrainedNetwork, spec: ClassifySpec, *, num_threads: int) -> None:
        self._predictor = Predictor(trained)
        self._spec = spec
        self._num_threads = num_threads

    def run(self, parts: Iterable[InputPart]) -> Iterator[pa.Table]:
        """Yield one table of the spec's schema a block, in order.

        Raises:
            DataError: the network gives no numbers.
            StoreError: a remote place stayed away.
        """
        decode = self._predictor.stored_pixels
        for block in decoded_blocks(parts, decode, num_threads=self._num_threads):
            yield self._table(block)

    def _table(self, decoded: Sequence[DecodedImage]) -> pa.Table:
        usable = [pixels for _, pixels in decoded if pixels is not None]
        lists: list[list[Any]] = [[]] * (len(self._spec.schema) - 2)
        if usable:
            with one_thread():
                scores = self._predictor.scores(usable, self._spec.view)
                refuse_diverged(scores)
                lists = [*best_five(scores)]
                if self._spec.all_probabilities:
                    lists.append(scores.exp().tolist())
        answers, none = iter(zip(*lists, strict=True)), (None,) * len(lists)
        rows = [
            (
                image.path,
                *(next(answers) if pixels is not None else none),
                image.reason or None,
            )
            for image, pixels in decoded
        ]
        schema = self._spec.schema
        columns = zip(*rows, strict=True)
        return pa.table(dict(zip(schema.names, map(list, columns), strict=True)), schema=schema)
