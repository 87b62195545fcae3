"""What is left of eight images, layer by layer, in the untrained network of 2012.

Section 8.1 of the specification: one draw of weights there, another one here, so all but conv1 is
compared within a factor of 1.5.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alexnet.model import LayeredNetwork
from alexnet.model.release_networks import TWO_TOWERS

CHANNEL_STD = (74.0, 72.0, 77.0)
LAYERS = ("conv1", "conv2_pool", "conv5_relu", "fc6_relu", "fc7_relu", "fc8")
State = dict[str, Tensor]


def as_released(state: State) -> State:
    return state


def as_printed(state: State) -> State:
    """0.01 in every layer."""
    three = {f"conv{i}.weight": state[f"conv{i}.weight"] / 3 for i in (3, 4, 5)}
    return state | three


def without_biases(state: State) -> State:
    return {name: 0 * x if name.endswith("bias") else x for name, x in state.items()}


def as_caffe(state: State) -> State:
    """0.01 in convolutions, 0.005 in fc6 and fc7, biases of 0.1 where they are 1."""
    halves = {f"{name}.weight": state[f"{name}.weight"] / 2 for name in ("fc6", "fc7")}
    biases = {name: x / 10 for name, x in state.items() if name.endswith("bias")}
    return as_printed(state) | halves | biases


Pairs = tuple[tuple[float, float], ...]
# How the weights are changed, and the inputs' scale. For each layer two standard deviations: over
# units and images; across images, the units' mean. Then the loss.
TABLE: dict[str, tuple[Callable[[State], State], float, Pairs, float]] = {
    "release": (
        as_released,
        1,
        ((14.1, 12.1), (1.72, 0.72), (2.75, 0.51), (2.65, 0.33), (0.93, 0.11), (0.45, 0.038)),
        7.01,
    ),
    "paper": (
        as_printed,
        1,
        ((13.2, 11.4), (1.73, 0.61), (0.41, 0.028), (0.96, 0.022), (0.46, 0.008), (0.36, 0.0025)),
        6.97,
    ),
    "no biases": (
        without_biases,
        1,
        ((14.3, 12.4), (1.54, 0.60), (1.64, 0.33), (1.23, 0.19), (0.28, 0.04), (0.11, 0.018)),
        6.91,
    ),
    "caffe": (
        as_caffe,
        1,
        ((13.9, 11.9), (1.60, 0.62), (0.09, 0.019), (0.08, 0.008), (0.02, 0.001), (0.03, 0.0005)),
        6.91,
    ),
    "inputs of unit variance": (
        as_released,
        1 / 58,
        ((0.23, 0.20), (0.035, 0.014), (1.30, 0.013), (1.44, 0.01), (0.61, 0.004), (0.37, 0.0012)),
        6.98,
    ),
}


@pytest.fixture(scope="module")
def network() -> LayeredNetwork:
    """Net 145 at full size; the same as `alexnet-2012`, with names for what is in between."""
    torch.manual_seed(0)
    return LayeredNetwork(TWO_TOWERS).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Eight, their amplitudes falling as one over the frequency, like photographs'."""
    rows, columns = np.fft.fftfreq(224)[:, None], np.fft.rfftfreq(224)
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    noise = np.random.default_rng(0).normal(size=(8, 3, 224, 224))
    planes = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(224, 224))
    planes /= planes.std(axis=(0, 2, 3), keepdims=True)
    return torch.tensor(planes * np.array(CHANNEL_STD)[:, None, None], dtype=torch.float32)


def outputs(
    network: LayeredNetwork, images: Tensor, change: Callable[[State], State] = as_released
) -> dict[str, Tensor]:
    """Every layer's, with changed weights."""
    seen: dict[str, Tensor] = {}

    def record(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _layer, _inputs, out: seen.update({name: out})

    hooks = [x.register_forward_hook(record(name)) for name, x in network.named_children()]
    state = change({name: x.detach() for name, x in network.named_parameters()})
    with torch.no_grad():
        torch.func.functional_call(network, state, (images, torch.arange(len(images))))
    for hook in hooks:
        hook.remove()
    return seen


def mean_loss(logits: Tensor) -> float:
    """Over all labels that the images might have."""
    return float((logits.logsumexp(1) - logits.mean(1)).mean())


def is_about(found: float, printed: float) -> bool:
    """Within a factor of 1.5 of some number that is printed so."""
    half_digit = 0.5 * 10 ** -len(str(printed).partition(".")[2])
    return (printed - half_digit) / 1.5 < found < (printed + half_digit) * 1.5


@pytest.mark.parametrize("name", list(TABLE))
def test_signal_and_loss_are_those_of_the_table(
    network: LayeredNetwork, images: Tensor, name: str
) -> None:
    change, scale, expected, loss = TABLE[name]
    found = outputs(network, images * scale, change)
    for layer, (spread, signal) in zip(LAYERS, expected, strict=True):
        out = found[layer].flatten(1)
        assert is_about(float(out.std()), spread), layer
        assert is_about(float(out.std(0, correction=0).mean()), signal), layer
    assert mean_loss(found["fc8"]) == pytest.approx(loss, abs=0.05)


def test_first_responses_are_as_strong_as_arithmetic_says(
    network: LayeredNetwork, images: Tensor
) -> None:
    expected = 0.01 * math.sqrt(363 * 5536)  # 14.2
    found = outputs(network, images)["conv1"]
    # The mean of 96 filters' squares, of few degrees of freedom each.
    assert float(found.std()) == pytest.approx(expected, rel=0.15)
    # Divided by 1.1 as in training.
    assert float(outputs(network, images / 1.1)["conv1"].std()) * 1.1 == pytest.approx(
        float(found.std()), rel=1e-4
    )


def test_the_first_norm_is_almost_a_constant_at_the_start(
    network: LayeredNetwork, images: Tensor
) -> None:
    found = outputs(network, images)
    before, after = found["conv1"], found["conv1_across"]
    factors = (after / before)[before.abs() > 1]
    assert float(factors.mean()) == pytest.approx(0.59, abs=0.005)
    assert float(factors.max()) <= 0.594605


def test_the_first_loss_is_that_of_a_thousand_classes_and_the_logits_spread(
    network: LayeredNetwork, images: Tensor
) -> None:
    for change in (as_released, as_printed):
        logits = outputs(network, images, change)["fc8"]
        excess = float(logits.var()) / 2
        assert mean_loss(logits) == pytest.approx(6.907755 + excess, abs=0.01)


@pytest.mark.parametrize(
    ("change", "spread", "loss"), [(as_released, 0.76, 7.20), (as_printed, 0.56, 7.07)]
)
def test_masks_without_rescaling_spread_the_logits_more_in_training(
    network: LayeredNetwork,
    images: Tensor,
    change: Callable[[State], State],
    spread: float,
    loss: float,
) -> None:
    try:
        logits = outputs(network.train(), images, change)["fc8"]
    finally:
        network.eval()
    assert 1 / 1.5 < float(logits.std()) / spread < 1.5
    assert mean_loss(logits) == pytest.approx(loss, abs=0.1)


def test_with_0_01_everywhere_a_tenth_of_the_signal_reaches_the_logits(
    network: LayeredNetwork, images: Tensor
) -> None:
    """Trap 18: the 0.03 in conv3 to conv5 is what makes biases of one workable."""
    signals = [
        float(outputs(network, images, change)["fc8"].std(0, correction=0).mean())
        for change in (as_released, as_printed)
    ]
    assert 16 / 1.5 < signals[0] / signals[1] < 16 * 1.5
