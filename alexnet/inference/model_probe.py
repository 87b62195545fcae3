"""What happens inside a trained network: a layer's maps, and which pixels an answer hangs on.

On the CPU, so that the same images give the same numbers wherever it is looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from alexnet.data.augment import center_view
from alexnet.evaluate.metrics import refuse_diverged
from alexnet.evaluate.scores import score
from alexnet.inference.layer_outputs import LayerOutputs
from alexnet.model import ModelError
from alexnet.model.layer_names import last_hidden_layer, layer_taps, watched
from alexnet.trained import TrainedNetwork
from infra.errors import RecipeError
from preprocessing.dataset.pixels import Pixels

Floats = npt.NDArray[np.float32]

_MAPS_DIMS: Final = 4


class ModelProbe:
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
        refuse_diverged(scores)
        return scores.exp().numpy()

    def maps(self, images: Sequence[Pixels], layer: str | None) -> tuple[str, Floats]:
        """Return a layer's name and its output, (n, maps, height, width).

        Args:
            images: stored ones.
            layer: as `feature_maps` takes it.

        Raises:
            RecipeError: there is no such layer, or it has no maps.
        """
        with torch.inference_mode():
            inputs = self._augment.evaluation_inputs(self._crops(images))
            name, maps = feature_maps(self._model, inputs, layer)
            return name, maps.numpy()

    def maps_by_layer(self, image: Pixels) -> list[tuple[str, Floats]]:
        """Return the maps, (maps, height, width), of each layer with weights that has maps."""
        found: list[tuple[str, Floats]] = []
        with torch.inference_mode():
            inputs = self._augment.evaluation_inputs(self._crops([image]))
            for name in layer_taps(self._model):
                if "_" in name:
                    continue  # named after the layer with weights before it
                output = _output(self._model, inputs, name)
                if output.ndim == _MAPS_DIMS:
                    found.append((name, output[0].numpy()))
        return found

    @property
    def hidden_layer(self) -> str:
        """The layer that `features` are of: the last hidden one."""
        return last_hidden_layer(self._model)

    def features(self, images: Sequence[Pixels]) -> Floats:
        """Return what the last hidden layer makes of stored images, (n, width).

        Raises:
            DataError: the network gives no numbers.
        """
        return self.layer_outputs(images, self.hidden_layer)

    def layer_outputs(self, images: Sequence[Pixels], layer: str) -> Floats:
        """Return what a layer makes of stored images, (n, width), as `alexnet features` writes it.

        Args:
            images: stored ones, at least one.
            layer: as `choose_layer` gave it.

        Raises:
            DataError: the network gives no numbers.
        """
        outputs = LayerOutputs(self._model, self._augment, self._crop_px, layer)
        found = outputs(images).reshape(len(images), -1)
        refuse_diverged(torch.from_numpy(found))
        return found

    def gradients(self, images: Sequence[Pixels]) -> Floats:
        """Return `pixel_gradient` of the views, (n, crop, crop, 3)."""

        def network(pixels: Tensor) -> Tensor:
            logits: Tensor = self._model(self._augment.evaluation_inputs(pixels))
            return logits

        return pixel_gradient(network, self._crops(images).float()).numpy()

    def _crops(self, images: Sequence[Pixels]) -> Tensor:
        batch = self._augment.to_view_size(torch.from_numpy(np.stack(images)))
        return center_view(batch, self._crop_px)


def feature_maps(model: nn.Module, inputs: Tensor, layer: str | None = None) -> tuple[str, Tensor]:
    """Return a layer's name and its output in a forward pass, (n, maps, height, width).

    Args:
        model: of `create_model`.
        inputs: (n, 3, side, side).
        layer: as in `alexnet.model.layer_names`; none is the first.

    Raises:
        RecipeError: there is no such layer, or it has no maps.
    """
    layer = layer or next(iter(layer_taps(model)))
    try:
        output = _output(model, inputs, layer)
    except ModelError as error:
        raise RecipeError(error.problem, remedy=error.remedy) from error
    if output.ndim != _MAPS_DIMS:
        one = inputs[:1]
        others = [
            name for name in layer_taps(model) if _output(model, one, name).ndim == _MAPS_DIMS
        ]
        raise RecipeError(
            f"layer {layer!r} has no maps: what it puts out is flat",
            remedy=f"choose one of {', '.join(others)}",
        )
    return layer, output


def _output(model: nn.Module, inputs: Tensor, layer: str) -> Tensor:
    with watched(model, layer) as seen:
        model(inputs)
    return seen[0]


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
