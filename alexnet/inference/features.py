"""The features of many images: a layer's activations beside where each image was found."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from alexnet.evaluate.metrics import refuse_diverged
from alexnet.inference.decoding import DecodedImage, decoded_blocks
from alexnet.inference.input_parts import InputPart
from alexnet.inference.layer_outputs import LayerOutputs
from alexnet.threads import one_thread
from alexnet.trained import TrainedNetwork
from preprocessing.dataset.pixels import Pixels, decode_square


def features_schema(width: int) -> pa.Schema:
    """Return the columns of a table of features, an image a row."""
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),  # as `alexnet predict` writes it
            pa.field("uri", pa.string(), nullable=False),  # of its file
            pa.field("row", pa.int64()),  # in that file, if it is Parquet
            pa.field("label", pa.int64()),  # as that file has it
            pa.field("features", pa.list_(pa.field("item", pa.float32()), width)),
        ]
    )


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Compute a layer's activations; an `InferenceSpec`."""

    layer: str
    width: int

    @property
    def num_views(self) -> int:
        """Forward passes an image takes."""
        return 1

    def runner(self, trained: TrainedNetwork, *, num_threads: int) -> "FeatureExtractor":
        """Load the network."""
        return FeatureExtractor(trained, self, num_threads=num_threads)


class FeatureExtractor:
    """Answers with features for parts, a block of 64 images at a time, on one device.

    Args:
        trained: the network.
        spec: which layer.
        num_threads: that read and decode; the features do not depend on it.
    """

    def __init__(self, trained: TrainedNetwork, spec: FeatureSpec, *, num_threads: int) -> None:
        self._outputs = LayerOutputs.load(trained, spec.layer)
        self._spec = spec
        self._stored_px = trained.stored_px
        self._num_threads = num_threads

    def run(self, parts: Iterable[InputPart]) -> Iterator[pa.Table]:
        """Yield a table a block: `features_schema`, and `reason`, with null features, if no image.

        Raises:
            DataError: the network gives no numbers.
            StoreError: a remote place stayed away.
        """
        for block in decoded_blocks(parts, self._decode, num_threads=self._num_threads):
            yield self._table(block)

    def _decode(self, body: bytes) -> Pixels:
        return decode_square(body, self._stored_px)

    def _table(self, block: Sequence[DecodedImage]) -> pa.Table:
        usable = [pixels for _, pixels in block if pixels is not None]
        none = np.array([pixels is None for _, pixels in block])
        features = np.zeros((len(block), self._spec.width), np.float32)
        if usable:
            with one_thread():
                features[~none] = self._outputs(usable).reshape(len(usable), -1)
        refuse_diverged(torch.from_numpy(features))
        images = [image for image, _ in block]
        schema = features_schema(self._spec.width).append(pa.field("reason", pa.string()))
        return pa.table(
            {
                "path": [image.path for image in images],
                "uri": [image.uri for image in images],
                "row": [image.row for image in images],
                "label": [image.label for image in images],
                "features": _lists(features, none),
                "reason": [image.reason or None for image in images],
            },
            schema=schema,
        )


def features_of(table: pa.Table) -> npt.NDArray[np.float32]:
    """View a table's features as an array, (rows, width); none of them null."""
    width = table.schema.field("features").type.list_size
    chunks = [chunk.flatten().to_numpy() for chunk in table["features"].chunks if len(chunk)]
    values = np.concatenate(chunks) if chunks else np.empty(0, np.float32)
    features: npt.NDArray[np.float32] = values.reshape(-1, width)
    return features


def _lists(features: npt.NDArray[np.float32], none: npt.NDArray[np.bool_]) -> pa.Array:
    width = features.shape[1]
    return pa.FixedSizeListArray.from_arrays(
        pa.array(features.reshape(-1)),
        type=pa.list_(pa.field("item", pa.float32()), width),
        mask=pa.array(none),
    )
