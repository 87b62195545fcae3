"""What the specification counts beside the tables of single layers: sums, shares, wrong turns."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from alexnet.model import AlexNet2012, LayeredNetwork, create_model
from alexnet.model.description import Conv
from alexnet.model.release_networks import TWO_TOWERS


def numbers(network: nn.Module) -> dict[str, int]:
    return {name: parameter.numel() for name, parameter in network.named_parameters()}


def total(sizes: dict[str, int], *, start: str = "", end: str = "") -> int:
    return sum(n for name, n in sizes.items() if name.startswith(start) and name.endswith(end))


def test_weights_and_biases_of_net_145_by_their_kind() -> None:
    with torch.device("meta"):
        sizes = numbers(AlexNet2012())
    assert [sizes[f"{name}.weight"] for name in ("conv1", "conv2", "conv3", "conv4", "conv5")] == [
        *(34_848, 307_200, 884_736, 663_552, 442_368)
    ]
    assert [sizes[f"conv{i}.bias"] for i in range(1, 6)] == [96, 256, 384, 384, 256]
    assert (total(sizes, end="weight"), total(sizes, end="bias")) == (60_954_656, 10_568)
    assert (total(sizes, start="conv"), total(sizes, start="fc")) == (2_334_080, 58_631_144)
    # Of every map's pixels one multiply-accumulate a weight.
    sides = {"conv1": 55, "conv2": 27, "conv3": 13, "conv4": 13, "conv5": 13}
    macs = sum(sizes[f"{name}.weight"] * side**2 for name, side in sides.items())
    assert macs == 665_784_864
    assert total(sizes, start="fc", end="weight") == 58_621_952
    # How well a std can be measured: 1 / sqrt(2 n) of it, 0.38 % in conv1.
    assert 1 / math.sqrt(2 * sizes["conv1.weight"]) == pytest.approx(0.0038, abs=5e-5)


def test_the_papers_sum_of_units_has_another_first_layer() -> None:
    """Section 2.2: 253,440 in the paper's section 3.5, 290,400 of 55 x 55; the others agree."""
    with torch.device("meta"):
        network = AlexNet2012()
    layers = ("conv1", "conv2", "conv3", "conv4", "conv5")
    widths = [network.get_submodule(name).get_parameter("weight").shape[0] for name in layers]
    convolved = sum(n * side**2 for n, side in zip(widths, (55, 27, 13, 13, 13), strict=True))
    units = convolved + 4096 + 4096 + 1000
    assert units == 659_272
    assert units - 290_400 + 55 * 48 * 96 == 622_312
    assert 3 * network.image_size**2 == 150_528


def test_without_towers_there_are_62_million_parameters() -> None:
    """Trap 8: what an implementation without groups would count."""
    joined = tuple(
        replace(layer, sees="all") if isinstance(layer, Conv) else layer
        for layer in TWO_TOWERS.layers
    )
    with torch.device("meta"):
        network = LayeredNetwork(replace(TWO_TOWERS, layers=joined))
    assert total(numbers(network)) == 62_378_344


def test_with_rounding_down_the_maps_shrink_and_fc6_does_not_fit() -> None:
    """Trap 1: 54, 26, 12 and 5 instead of 55, 27, 13 and 6; 6,400 inputs instead of 9,216."""
    with torch.device("meta"):
        network = AlexNet2012()
    network.overhang = 0
    network.pool.ceil_mode = False
    sizes: list[int] = []
    for layer in (network.conv1, network.pool):
        layer.register_forward_hook(lambda _layer, _inputs, out: sizes.append(out.shape[-1]))
    with pytest.raises(RuntimeError, match="6400"):
        network(torch.empty(1, 3, 224, 224, device="meta"))
    assert sizes == [54, 26, 12, 5]
    assert network.fc6.in_features == 9216


def test_one_tower_has_a_little_more_to_learn() -> None:
    with torch.device("meta"):
        towers, one = (total(numbers(create_model(f"alexnet-{n}"))) for n in ("2012", "one-tower"))
    assert one / towers == pytest.approx(1.0022, abs=5e-5)
