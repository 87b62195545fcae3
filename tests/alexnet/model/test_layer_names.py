"""A layer's name stands for the same activations in every network, and none is halved."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.model import LayeredNetwork, ModelError, create_model, list_models
from alexnet.model.layer_names import find_tap, last_hidden_layer, layer_taps, watched
from alexnet.model.registry import DESCRIPTIONS
from alexnet.model.release_networks import TWO_TOWERS
from tests.alexnet.model.network_reference import STEPS, every_step

SIZES = {"alexnet-bn": 67, "alexnet-bn-last": 67, "alexnet-torchvision": 63}
ENDINGS = {
    "relu": "relu", "half": "dropout", "max": "pool", "max2": "pool", "avg": "pool",
    "lrn": "across", "lrn9": "across", "paper": "across", "within": "within", "within3": "within",
}  # fmt: skip
LAST_HIDDEN = {
    "cifar-11pct": "local4_flatten", "cifar-13pct": "local4_flatten",
    "cifar-18pct": "conv3_flatten", "cifar-80sec": "fc64_relu",
}  # fmt: skip


def small(name: str, **options: Any) -> nn.Module:
    size = 24 if name.startswith("cifar") else SIZES.get(name, 63)
    torch.manual_seed(5)
    width = {} if name.startswith("cifar") else {"width": 0.05}
    network = create_model(name, num_classes=10, image_size=size, **width, **options)
    state = network.state_dict()
    for key, tensor in state.items():  # biases and running means of 0 would hide a mistake
        if key.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.1)
        elif key.endswith("weight") and tensor.dim() > 1:
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5)
    return network.eval()


def images_of(network: Any) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return 40 * torch.randn(3, 3, network.image_size, network.image_size, generator=generator)


def seen(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    with torch.no_grad(), watched(network, layer) as found:
        network(images)
    (activations,) = found
    return activations


def layers_of(name: str) -> Iterator[str]:
    """The steps of the written-out network by our names."""
    above = ""
    for step in STEPS[name].split():
        if step in ENDINGS:
            yield f"{above}_{ENDINGS[step]}"
        elif step.startswith("bn"):
            yield f"{above}_plainbatchnorm"
        else:
            above = step
            yield above


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_a_tables_layers_are_the_steps_of_it_written_out(name: str) -> None:
    network = small(name)
    images = images_of(network)
    steps = dict(zip(layers_of(name), every_step(name, network.state_dict(), images), strict=True))
    # Not all texts have a step for dropout, and none has one for flattening.
    ours = [layer for layer in layer_taps(network) if not layer.endswith(("_flatten", "_dropout"))]
    assert ours == [layer for layer in steps if not layer.endswith("_dropout")]
    for layer, expected in steps.items():
        tolerance = 2e-4 * float(expected.abs().max())
        found = seen(network, layer, images).double()
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=tolerance)


def test_the_2012_network_has_the_layers_of_its_table_bit_for_bit() -> None:
    written, table = small("alexnet-2012"), None
    table = LayeredNetwork(TWO_TOWERS, num_classes=10, image_size=63, width=0.05).eval()
    table.load_state_dict(written.state_dict())
    images = images_of(written)
    ours = [layer for layer in layer_taps(table) if layer != "conv5_flatten"]
    assert list(layer_taps(written)) == ours
    for layer in ours:
        expected = seen(table, layer, images)
        assert torch.equal(seen(written, layer, images).view_as(expected), expected), layer


def test_torchvisions_network_is_watched_before_its_relus_write_over_what_they_get() -> None:
    network = small("alexnet-torchvision")
    images, state = images_of(network), network.state_dict()
    layers = (("conv1", 0, 4, 2), ("conv2", 3, 1, 2), ("conv3", 6, 1, 1), ("conv4", 8, 1, 1),
              ("conv5", 10, 1, 1))  # fmt: skip
    expected, x = {}, images
    for name, number, stride, padding in layers:
        weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
        expected[name] = functional.conv2d(x, weight, bias, stride, padding)
        x = expected[f"{name}_relu"] = expected[name].clamp(min=0)
        if name in ("conv1", "conv2", "conv5"):
            x = expected[f"{name}_pool"] = functional.max_pool2d(x, 3, 2)
    x = expected["conv5_avgpool"] = functional.adaptive_avg_pool2d(x, 6)
    x = expected["conv5_dropout"] = x.flatten(1)
    for name, number in (("fc6", 1), ("fc7", 4), ("fc8", 6)):
        x = x @ state[f"classifier.{number}.weight"].T + state[f"classifier.{number}.bias"]
        expected[name] = x
        x = expected[f"{name}_relu"] = x.clamp(min=0)
    del expected["fc8_relu"]
    expected["fc6_dropout"] = expected["fc6_relu"]
    assert set(layer_taps(network)) == set(expected)
    for layer, activations in expected.items():
        torch.testing.assert_close(seen(network, layer, images), activations, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["nvcaffe", "small-images"])
def test_batch_norm_stands_between_a_layer_and_its_relu(variant: str) -> None:
    network: Any = small("alexnet-bn", variant=variant)
    images, state = images_of(network), network.state_dict()
    first = {"nvcaffe": (4, 0), "small-images": (2, 3)}[variant]
    expected, x = {}, images

    def normed(name: str, x: Tensor) -> Tensor:
        norm = {key: state[f"norm{name[-1]}.{key}"] for key in ("weight", "bias")}
        means = (state[f"norm{name[-1]}.running_{key}"] for key in ("mean", "var"))
        return functional.batch_norm(x, *means, **norm, eps=1e-4)

    for name, (stride, padding), groups in (
        ("conv1", first, 1), ("conv2", (1, 2), 2), ("conv3", (1, 1), 1), ("conv4", (1, 1), 2),
        ("conv5", (1, 1), 2),
    ):  # fmt: skip
        bias = state.get(f"{name}.bias")
        weight = state[f"{name}.weight"]
        x = expected[name] = functional.conv2d(x, weight, bias, stride, padding, groups=groups)
        x = expected[f"{name}_norm"] = normed(name, x)
        x = expected[f"{name}_relu"] = x.clamp(min=0)
        if name in ("conv1", "conv2", "conv5"):
            x = expected[f"{name}_pool"] = functional.max_pool2d(x, 3, 2, ceil_mode=True)
    x = x.flatten(1)
    for name in ("fc6", "fc7"):
        x = expected[name] = functional.linear(
            x, state[f"{name}.weight"], state.get(f"{name}.bias")
        )
        if variant == "small-images":
            x = expected[f"{name}_norm"] = normed(name, x)
        x = expected[f"{name}_relu"] = expected[f"{name}_dropout"] = x.clamp(min=0)
    expected["fc8"] = functional.linear(x, state["fc8.weight"], state["fc8.bias"])
    assert list(layer_taps(network)) == list(expected)
    for layer, activations in expected.items():
        torch.testing.assert_close(seen(network, layer, images), activations, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", list_models())
def test_the_last_hidden_layer_is_what_the_last_one_sees_and_is_not_halved(name: str) -> None:
    network: Any = small(name)
    images = images_of(network)
    layer = last_hidden_layer(network)
    assert layer == LAST_HIDDEN.get(name, "fc7_relu")
    features = seen(network, layer, images)
    assert features.min() >= 0
    assert features.max() > 0
    last = layer_taps(network)[list(layer_taps(network))[-1]].module
    weights = network.get_submodule(last)
    # In the convention of 2012 the last layer sees half of it; in the inverted one all.
    halved = name.startswith("alexnet-2012") or name in ("alexnet-paper", "alexnet-one-tower")
    logits = weights(features * 0.5 if halved else features)
    with torch.no_grad():
        torch.testing.assert_close(logits, network(images))


def test_an_unknown_layer_is_refused_with_those_there_are() -> None:
    network = small("cifar-18pct")
    with pytest.raises(
        ModelError, match=r"no layer 'conv3_rleu'; did you mean 'conv3_relu'\? Known"
    ):
        find_tap(network, "conv3_rleu")
    with pytest.raises(ModelError, match="Linear have no names"):
        layer_taps(nn.Linear(1, 1))


def test_nothing_is_left_hanging_on_the_network() -> None:
    network = small("alexnet-2012")
    for layer in ("fc7", "fc7_relu"):
        seen(network, layer, images_of(network))
    modules = list(network.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
