"""The first layer's filters as a training went on: small objects that outlive the checkpoints.

    filters/step-00000500.safetensors    the weights after 500 updates, `filters` (maps, 3, k, k)

A step that is trained again after a restart writes its object anew, with the same filters.
"""

import re
from collections.abc import Mapping
from typing import Final

from safetensors.torch import load, save
from torch import Tensor

from infra.store import ObjectStore

FOLDER: Final = "filters/"
_NAME: Final = re.compile(rf"{FOLDER}step-(\d{{8,}})\.safetensors")
_TENSOR: Final = "filters"
_RGB: Final = 3


def first_filters(weights: Mapping[str, Tensor]) -> Tensor:
    """Return the weights of the layer that sees the image, (maps, 3, k, k), of a network's state.

    No other convolution of ours sees three channels: their widths are multiples of eight.
    """
    return next(w for w in weights.values() if w.ndim == 4 and w.shape[1] == _RGB)


def count_towers(weights: Mapping[str, Tensor]) -> int:
    """Return how many towers the first layer's maps belong to, one or two.

    In a network of two the second convolution sees half of the first one's maps.
    """
    maps = len(first_filters(weights))
    return 2 if any(w.ndim == 4 and 2 * w.shape[1] == maps for w in weights.values()) else 1


def write_filters(run: ObjectStore, step: int, weights: Mapping[str, Tensor]) -> None:
    """Keep the filters of a network's state after `step` updates."""
    filters = first_filters(weights).detach().float().cpu().contiguous()
    run.write(f"{FOLDER}step-{step:08}.safetensors", save({_TENSOR: filters}))


def list_filters(run: ObjectStore) -> list[int]:
    """List the steps whose filters were kept, ascending."""
    found = [_NAME.fullmatch(info.key) for info in run.list(FOLDER)]
    return sorted(int(match[1]) for match in found if match)


def read_filters(run: ObjectStore, step: int) -> Tensor:
    """Read the filters of one of the steps listed, (maps, 3, k, k) float32."""
    return load(run.read(f"{FOLDER}step-{step:08}.safetensors"))[_TENSOR]
