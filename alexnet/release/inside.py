"""What happens inside a trained network: a layer's maps, and which pixels an answer hangs on.

On the CPU, so that the same images give the same numbers wherever it is looked at.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from alexnet.data.augment import center_view
from alexnet.evaluate.scores import score
from alexnet.evaluate.trained import TrainedNetwork
from infra.errors import DataError, RecipeError
from preprocessing.dataset.pixels import Pixels

Floats = npt.NDArray[np.float32]


class Inside:
    """Looks into one network while it answers for stored images, centre view.

    Raises:
        DataError: its weights are damaged, or another network's.
    """

    def __init__(self, trained: TrainedNetwork) -> None:
        self._model = trained.load_model()
        self._augment = trained.load_augment()
        self._crop_px = trained.augment.crop_px

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The network's weights by name."""
        return self._model.state_dict()

    def views(self, images: Sequence[Pixels]) -> npt.NDArray[np.uint8]:
        """Return the central crops, (n, crop, crop, 3): what the network sees of stored images."""
        return self._crops(images).contiguous().numpy()

    def probabilities(self, images: Sequence[Pixels]) -> Floats:
        """Return the probability of every class, (n, classes), as evaluation computes it.

        Raises:
            DataError: the network gives no numbers.
        """
        batch = torch.from_numpy(np.stack(images))
        scores = score(self._model, self._augment, batch, self._crop_px, "center")
        if not scores.isfinite().all():
            raise DataError(
                "the network's outputs are not all finite numbers",
                remedy="its training diverged: train again with a lower learning rate",
            )
        return scores.exp().numpy()

    def maps(self, images: Sequence[Pixels], layer: str | None) -> tuple[str, Floats]:
        """Return a layer's name and its output, (n, maps, height, width).

        Args:
            images: stored ones.
            layer: its name in the network; none is the one that sees the image.

        Raises:
            RecipeError: no layer with maps has this name; all that have are listed.
        """
        with torch.inference_mode():
            inputs = self._augment.evaluation_inputs(self._crops(images))
            name = layer or first_layer(self._model)
            return name, feature_maps(self._model, inputs, name).numpy()

    def gradients(self, images: Sequence[Pixels]) -> Floats:
        """Return `pixel_gradient` of the views, (n, crop, crop, 3)."""

        def network(pixels: Tensor) -> Tensor:
            logits: Tensor = self._model(self._augment.evaluation_inputs(pixels))
            return logits

        return pixel_gradient(network, self._crops(images).float()).numpy()

    def _crops(self, images: Sequence[Pixels]) -> Tensor:
        batch = self._augment.to_view_size(torch.from_numpy(np.stack(images)))
        return center_view(batch, self._crop_px)


def first_layer(model: nn.Module) -> str:
    """Return the name of the first layer that has weights for maps."""
    return next(name for name, w in model.named_parameters() if w.ndim == 4).rpartition(".")[0]


def feature_maps(model: nn.Module, inputs: Tensor, layer: str) -> Tensor:
    """Return what a layer puts out in a forward pass, (n, maps, height, width).

    Raises:
        RecipeError: no layer with maps has this name; a module that is used several times (one
            pool for all) has no output of its own, and is no such layer.
    """
    outputs: dict[str, list[Tensor]] = defaultdict(list)

    def keep(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:  # noqa: ANN401
        # A copy: a ReLU may work in place.
        outputs[name].append(output.clone() if name == layer else output)

    hooks = [
        module.register_forward_hook(partial(keep, name))
        for name, module in model.named_modules()
        if name
    ]
    try:
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    layers = {name: found[0] for name, found in outputs.items() if len(found) == 1}
    with_maps = {name: output for name, output in layers.items() if output.ndim == 4}
    if layer not in with_maps:
        raise RecipeError(
            f"this network has no layer {layer!r} with maps",
            remedy=f"choose one of {', '.join(with_maps)}",
        )
    return with_maps[layer]


def pixel_gradient(network: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Return the gradient of ln p of each image's most probable class by its pixels.

    Args:
        network: pixels → logits, (n, classes), each image's by itself.
        pixels: floating-point images, the first dimension counts them.

    Source: `--show-data-grad` of the release's `shownet.py`.
    """
    pixels = pixels.detach().requires_grad_()
    best = torch.log_softmax(network(pixels), dim=1).amax(dim=1)
    (gradient,) = torch.autograd.grad(best.sum(), pixels)
    return gradient
