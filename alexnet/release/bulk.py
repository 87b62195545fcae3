"""Predict for many images, a block of 64 at a time; what is no image is a row with the reason.

Blocks are those of evaluation: floating-point bits change with the shape of a batch and the number
of threads, so what is computed together depends on what was asked for, not on who computes it.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Final

import numpy as np
import pyarrow as pa
import torch

from alexnet.evaluate.rows import View
from alexnet.evaluate.trained import TrainedNetwork
from alexnet.release.inputs import ImageFile, Piece, read_file, stream_pieces
from alexnet.release.predictor import BATCH_ROWS, Predictor
from infra.errors import DataError
from infra.store import is_remote
from preprocessing.dataset.pixels import Pixels
from preprocessing.errors import ImageRejected

ANSWERS: Final = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.int64())),
        pa.field("probabilities", pa.list_(pa.float64())),
        pa.field("reason", pa.string()),
    ]
)
"""A row an image: the best five classes, best first, or the reason why it is no image."""

_REQUESTS_AT_ONCE: Final = 16

_Decoded = tuple[str, Pixels | None, str]


class BulkPredictor:
    """Answers for pieces with one network, on one device; one block is decoded ahead.

    Args:
        trained: the network.
        view: which crops.
        num_threads: that read and decode; the answers do not depend on it.
    """

    def __init__(self, trained: TrainedNetwork, view: View, *, num_threads: int) -> None:
        self._predictor = Predictor(trained)
        self._view = view
        self._num_threads = num_threads

    def answer(self, pieces: Iterable[Piece]) -> Iterator[pa.Table]:
        """Yield one table of ANSWERS a block, in order.

        Raises:
            DataError: the network gives no numbers.
            StoreError: a remote place stayed away.
        """
        pieces = list(pieces)
        waits = any(is_remote(piece.store) for piece in pieces)
        images = stream_pieces(pieces)
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE if waits else self._num_threads) as threads:

            def begin_block() -> list[Future[_Decoded]]:
                return [threads.submit(self._decode, image) for image in islice(images, BATCH_ROWS)]

            block = begin_block()
            while block:
                following = begin_block()
                yield self._table([image.result() for image in block])
                block = following

    def _decode(self, image: ImageFile | Piece) -> _Decoded:
        path, body, reason = read_file(image) if isinstance(image, Piece) else image
        if reason:
            return path, None, reason
        try:
            return path, self._predictor.stored_pixels(body), ""
        except ImageRejected as error:
            return path, None, str(error)

    def _table(self, decoded: list[_Decoded]) -> pa.Table:
        usable = [pixels for _, pixels, _ in decoded if pixels is not None]
        labels: list[list[int]] = []
        probabilities: list[list[float]] = []
        if usable:
            with one_thread():
                labels, probabilities = self._predictor.best_five(usable, self._view)
        if not np.isfinite(probabilities).all():
            raise DataError(
                "the network's outputs are not all finite numbers",
                remedy="its training diverged: train again with a lower learning rate",
            )
        answers = iter(zip(labels, probabilities, strict=True))
        rows = [
            (path, *(next(answers) if pixels is not None else (None, None)), reason or None)
            for path, pixels, reason in decoded
        ]
        columns = zip(*rows, strict=True)
        return pa.table(dict(zip(ANSWERS.names, map(list, columns), strict=True)), schema=ANSWERS)


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute with one thread, as evaluation does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
