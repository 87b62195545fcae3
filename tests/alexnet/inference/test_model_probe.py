"""What is seen inside a network is held against what one computes outside of it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alexnet.evaluate.blocks import BlockReader, plan_blocks
from alexnet.inference.model_probe import ModelProbe, feature_maps, pixel_gradient
from alexnet.model import create_model, list_models
from infra.errors import DataError, RecipeError
from preprocessing.dataset.pixels import Pixels
from preprocessing.dataset.statistics import parse_statistics


@pytest.fixture(scope="module")
def images(tiny_training: Any) -> list[Pixels]:
    reader = BlockReader(tiny_training.store, tiny_training.manifest)
    try:
        return list(reader.read(plan_blocks(tiny_training.manifest.val)[0]).decode()[:6])
    finally:
        reader.close()


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 2, 3),
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(18, 5),
    )
    return nn.Sequential(*layers).double()


def ln_p_of_best(network: nn.Module, pixels: Tensor) -> np.ndarray:
    logits = network(pixels).detach().numpy()
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray((shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))).max(axis=1))


def test_the_gradient_is_that_of_finite_differences() -> None:
    network = small_network()
    pixels = torch.randn(
        2, 3, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    found = pixel_gradient(network, pixels).numpy()
    eps = 1e-6
    expected = np.zeros_like(found)
    for place in np.ndindex(*pixels.shape[1:]):
        step = torch.zeros_like(pixels)
        step[(slice(None), *place)] = eps  # images do not see each other
        rise = ln_p_of_best(network, pixels + step) - ln_p_of_best(network, pixels - step)
        expected[(slice(None), *place)] = rise / (2 * eps)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    assert np.abs(expected).max() > 1e-3


def test_a_gradient_leaves_pixels_and_weights_alone() -> None:
    network = small_network()
    pixels = torch.randn(1, 3, 7, 7, dtype=torch.float64)
    pixel_gradient(network, pixels)
    assert not pixels.requires_grad
    assert all(weight.grad is None for weight in network.parameters())


def test_the_gradient_is_by_the_stored_pixels_normalisation_included(
    tiny_training: Any, images: list[Pixels]
) -> None:
    trained = tiny_training.trained
    model = trained.load_model().double()
    mean = parse_statistics(trained.statistics.read()).mean_image
    margin = (mean.shape[0] - trained.augment.crop_px) // 2
    inner = slice(margin, margin + trained.augment.crop_px)

    def ln_p(stored: np.ndarray) -> np.ndarray:
        centred = (stored - mean)[:, inner, inner]
        return ln_p_of_best(model, torch.from_numpy(centred.transpose(0, 3, 1, 2)))

    stored = np.stack(images).astype(np.float64)
    found = ModelProbe(trained).gradients(images)
    assert found.shape == (6, trained.augment.crop_px, trained.augment.crop_px, 3)
    # Along a direction of small steps of all pixels, as large as the gradient says.
    direction = np.sign(found)
    step = np.zeros_like(stored)
    step[:, inner, inner] = 1e-4 * direction
    slope = (ln_p(stored + step) - ln_p(stored - step)) / 2e-4
    np.testing.assert_allclose((found * direction).sum(axis=(1, 2, 3)), slope, rtol=2e-3)


def test_layers_without_maps_are_refused_and_those_with_maps_are_named(
    tiny_training: Any, images: list[Pixels]
) -> None:
    probe = ModelProbe(tiny_training.trained)
    with pytest.raises(RecipeError, match="layer 'fc6_relu' has no maps") as caught:
        probe.maps(images, "fc6_relu")
    named = caught.value.remedy.split(" of ")[1].split(", ")
    # conv5_relu is flattened at once in this network.
    assert named[:3] == ["conv1", "conv1_across", "conv1_pool"]
    assert named[-2:] == ["conv5", "conv5_pool"]
    for name in named:
        assert probe.maps(images[:1], name)[1].ndim == 4
    with pytest.raises(RecipeError, match="no layer 'conv9'"):
        probe.maps(images, "conv9")


@pytest.mark.parametrize("name", list_models())
def test_every_network_has_maps_of_its_first_layer(name: str) -> None:
    network = create_model(name, num_classes=3, width=0.05).eval()
    inputs = torch.zeros(1, 3, network.image_size, network.image_size)
    with torch.inference_mode():
        first, maps = feature_maps(network, inputs)
    assert first == "conv1"
    assert maps.shape[1] == next(network.parameters()).shape[0]
    assert maps.shape[2] == maps.shape[3]


def test_what_is_seen_is_what_evaluation_sees(tiny_training: Any, images: list[Pixels]) -> None:
    probe = ModelProbe(tiny_training.trained)
    views = probe.views(images)
    np.testing.assert_array_equal(views, np.stack(images)[:, 4:44, 4:44])
    probabilities = probe.probabilities(images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    name, maps = probe.maps(images, None)
    assert name == "conv1"
    assert maps.shape[:2] == (6, len(probe.weights["conv1.weight"]))


def test_a_network_that_gives_no_numbers_is_refused(
    tiny_training: Any, images: list[Pixels]
) -> None:
    probe = ModelProbe(tiny_training.trained)
    probe.weights["fc8.bias"].fill_(float("nan"))
    with pytest.raises(DataError, match="not all finite"):
        probe.probabilities(images)
