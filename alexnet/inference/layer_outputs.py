"""A named layer's activations for stored pixels, in test mode, on the view that is evaluated."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

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
        trained: the network.
        layer: as `choose_layer` gave it.
    """

    def __init__(self, trained: TrainedNetwork, layer: str) -> None:
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model: nn.Module = trained.load_model(self._device)
        self._augment = trained.load_augment(self._device)
        self._crop_px = trained.augment.crop_px
        self._layer = layer

    def __call__(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Return the activations, (images, …) as the layer has them, of the centre view.

        Args:
            images: of `Predictor.stored_pixels`, at least one; computed together as one batch.
        """
        batch = torch.from_numpy(np.stack(images)).to(self._device)
        with watched(self._model, self._layer) as seen:
            score(self._model, self._augment, batch, self._crop_px, "center")
        activations: npt.NDArray[np.float32] = seen[0].float().cpu().numpy()
        return activations
