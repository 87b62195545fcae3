"""What is computed of many images, and what computes it: in one process or over Ray, the same."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import pyarrow as pa

from alexnet.inference.input_parts import InputPart
from alexnet.trained import TrainedNetwork


class InferenceRunner(Protocol):
    """Computes one spec with one network, on one device."""

    def run(self, parts: Iterable[InputPart]) -> Iterator[pa.Table]:
        """Yield a table a block, in order, whose column `reason` is null unless there is none."""
        ...


class InferenceSpec(Protocol):
    """What is computed of every image: small, picklable, and equal where the results are."""

    @property
    def num_views(self) -> int:
        """Forward passes an image takes."""
        ...

    def runner(self, trained: TrainedNetwork, *, num_threads: int) -> InferenceRunner:
        """Load the network."""
        ...
