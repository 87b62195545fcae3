"""A named layer's activations for stored pixels, in test mode, on the view that is evaluated."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from alexnet.data.augment import Augment
from alexnet.evaluate.scores import score
from alexnet.model import ModelError
from alexnet.model.layer_names import find_tap, last_hidden_layer, watched
from alexnet.trained import TrainedNetwork
from infra.errors import RecipeError
from preprocessing.dataset.pixels import Pixels


def choose_layer(trained: TrainedNetwork, layer: str | None) -> tuple[str, int]:
    """Return a layer's name and how many activations it has for an image; loads no weights.

    Args:
        trained: the network.
        layer: as in `alexnet.model.layer_names`; none is the last hidden one.

    Raises:
        RecipeError: there is no such layer; lists those there are.
        DataError: this version has no such network.
    """
    side = trained.augment.crop_px
    with torch.device("meta"):  # shapes without numbers: nothing is drawn or computed
        network = trained.build()
        layer = last_hidden_layer(network) if layer is None else layer
        try:
            find_tap(network, layer)
        except ModelError as error:
            raise RecipeError(
                f"{trained.network.name}: {error.problem}", remedy=error.remedy
            ) from error
        with torch.inference_mode(), watched(network, layer) as seen:
            network(torch.zeros(1, 3, side, side))
    return layer, math.prod(seen[0].shape[1:])


class LayerOutputs:
    """Gives one layer's activations, with the pixels, precision and view of evaluation.

    Args:
        model: in evaluation mode, on the device.
        augment: normalises as in the model's training, on the device.
        crop_px: side of the view.
        layer: as in `alexnet.model.layer_names`.
        device: where it is computed.
    """

    def __init__(
        self, model: nn.Module, augment: Augment, crop_px: int, layer: str, device: str = "cpu"
    ) -> None:
        self._model = model
        self._augment = augment
        self._crop_px = crop_px
        self._layer = layer
        self._device = device

    @classmethod
    def load(cls, trained: TrainedNetwork, layer: str) -> "LayerOutputs":
        """Load a network, onto the GPU if there is one.

        Args:
            trained: the network.
            layer: as `choose_layer` gave it.

        Raises:
            DataError: its weights are damaged, or another network's.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, augment = trained.load_model(device), trained.load_augment(device)
        return cls(model, augment, trained.augment.crop_px, layer, device)

    def __call__(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Return the activations, (images, …) float32 as the layer has them, of the centre view.

        Args:
            images: of `Predictor.stored_pixels`, at least one; computed together as one batch.
        """
        batch = torch.from_numpy(np.stack(images)).to(self._device)
        with watched(self._model, self._layer) as seen:
            score(self._model, self._augment, batch, self._crop_px, "center")
        activations: npt.NDArray[np.float32] = seen[0].float().cpu().numpy()
        return activations
