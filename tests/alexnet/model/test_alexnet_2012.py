import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.model import AlexNet2012, ModelError
from alexnet.model.alexnet_2012 import SMALLEST_IMAGE
from alexnet.model.init import RELEASE

# Section 2.1 of the specification: parameters, shape of the output, multiply-accumulates.
LAYERS: dict[str, tuple[int, tuple[int, ...], int]] = {
    "conv1": (34_944, (96, 55, 55), 105_415_200),
    "conv2": (307_456, (256, 27, 27), 223_948_800),
    "conv3": (885_120, (384, 13, 13), 149_520_384),
    "conv4": (663_936, (384, 13, 13), 112_140_288),
    "conv5": (442_624, (256, 13, 13), 74_760_192),
    "fc6": (37_752_832, (4096,), 37_748_736),
    "fc7": (16_781_312, (4096,), 16_777_216),
    "fc8": (4_097_000, (1000,), 4_096_000),
}


@pytest.fixture(scope="module")
def full_network() -> AlexNet2012:
    torch.manual_seed(0)
    return AlexNet2012().eval()


def tiny_network(image_size: int = 63) -> AlexNet2012:
    torch.manual_seed(0)
    return AlexNet2012(num_classes=10, image_size=image_size, width=0.1, init="fan-in")


def output_shapes(network: nn.Module, image_size: int) -> list[tuple[str, tuple[int, ...]]]:
    """Each layer's output per image, in the order of execution; computed without data."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    for name, layer in network.named_children():

        def record(_: nn.Module, __: object, out: Tensor, name: str = name) -> None:
            seen.append((name, tuple(out.shape[1:])))

        layer.register_forward_hook(record)
    network(torch.empty(2, 3, image_size, image_size, device="meta"))
    return seen


def test_parameters_and_multiply_accumulates_are_those_of_the_release() -> None:
    with torch.device("meta"):
        network = AlexNet2012()
    shapes = dict(output_shapes(network, 224))
    measured = {}
    for name, layer in network.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            shape = shapes[name]
            macs = layer.weight.numel() * math.prod(shape[1:])
            measured[name] = (sum(p.numel() for p in layer.parameters()), shape, macs)
    assert measured == LAYERS
    assert sum(p.numel() for p in network.parameters()) == 60_965_224
    assert sum(macs for _, _, macs in measured.values()) == 724_406_816
    assert sum(math.prod(shape) for _, shape, _ in measured.values()) == 659_272
    assert list(dict(network.named_parameters())) == [
        f"{name}.{kind}" for name in LAYERS for kind in ("weight", "bias")
    ]


def test_layers_run_in_the_order_of_the_release_at_its_map_sizes() -> None:
    with torch.device("meta"):
        network = AlexNet2012()
    assert output_shapes(network, 224) == [
        ("conv1", (96, 55, 55)),
        ("across_maps", (96, 55, 55)),
        ("pool", (96, 27, 27)),
        ("conv2", (256, 27, 27)),
        ("across_maps", (256, 27, 27)),
        ("within_map", (256, 27, 27)),
        ("pool", (256, 13, 13)),
        ("conv3", (384, 13, 13)),
        ("conv4", (384, 13, 13)),
        ("conv5", (256, 13, 13)),
        ("pool", (256, 6, 6)),
        ("fc6", (4096,)),
        ("dropout6", (4096,)),
        ("fc7", (4096,)),
        ("dropout7", (4096,)),
        ("fc8", (1000,)),
    ]


def written_out(network: AlexNet2012, padded: Tensor) -> Tensor:
    """The network in evaluation, from torch's own pieces; towers computed apart."""
    norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)

    def within(x: Tensor) -> Tensor:
        return x * (1 + 4e-5 * 25 * functional.avg_pool2d(x * x, 5, 1, 2)) ** -0.75

    def pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 3, 2, ceil_mode=True)

    def halves(layer: nn.Conv2d, inputs: Sequence[Tensor], pad: int) -> list[Tensor]:
        weights = layer.weight.chunk(2)
        biases = layer.get_parameter("bias").chunk(2)
        return [
            functional.conv2d(x, w, b, padding=pad)
            for x, w, b in zip(inputs, weights, biases, strict=True)
        ]

    blocks: Sequence[Tensor] = network.conv1(padded).chunk(2, dim=1)
    blocks = [pool(norm(x)).relu() for x in blocks]
    blocks = [norm(x.relu()) for x in halves(network.conv2, blocks, 2)]
    joined = torch.cat([pool(within(x)) for x in blocks], dim=1)
    blocks = network.conv3(joined).relu().chunk(2, dim=1)
    blocks = [x.relu() for x in halves(network.conv4, blocks, 1)]
    blocks = [pool(x.relu()) for x in halves(network.conv5, blocks, 1)]
    units = 0.5 * network.fc6(torch.cat(blocks, dim=1).flatten(1)).relu()
    logits: Tensor = network.fc8(0.5 * network.fc7(units).relu())
    return logits


def test_the_network_is_the_specification_written_out(full_network: AlexNet2012) -> None:
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 60
    padded = functional.pad(images, (0, 3, 0, 3))
    assert padded.shape[-1] == 227
    with torch.no_grad():
        expected = written_out(full_network, padded)
        torch.testing.assert_close(full_network(images), expected, rtol=1e-4, atol=1e-4)


def test_weights_and_biases_start_as_in_the_release(full_network: AlexNet2012) -> None:
    for name, (std, bias) in {
        "conv1": (0.01, 0),
        "conv2": (0.01, 1),
        "conv3": (0.03, 0),
        "conv4": (0.03, 1),
        "conv5": (0.03, 1),
        "fc6": (0.01, 1),
        "fc7": (0.01, 1),
        "fc8": (0.01, 0),
    }.items():
        layer = full_network.get_submodule(name)
        weight = layer.get_parameter("weight")
        # Five standard errors of a measured std: std / sqrt(2 n).
        tolerance = 5 / math.sqrt(2 * weight.numel())
        assert weight.std().item() == pytest.approx(std, rel=tolerance)
        assert weight.abs().mean().item() == pytest.approx(std * 0.797885, rel=tolerance)
        assert abs(weight.mean().item()) < 5 * std / math.sqrt(weight.numel())
        assert (layer.get_parameter("bias") == bias).all()


def test_the_untrained_network_is_near_chance(full_network: AlexNet2012) -> None:
    images = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(2)) * 74
    with torch.no_grad():
        loss = functional.cross_entropy(full_network(images), torch.arange(8))
    assert 6.5 < loss.item() < 7.6


def test_fan_in_and_release_starts_are_the_same_at_full_size() -> None:
    with torch.device("meta"):
        network = AlexNet2012()
    for name, start in RELEASE.items():
        weight = network.get_submodule(name).get_parameter("weight")
        assert weight.shape[1:].numel() == start.fan_in


def test_fan_in_start_makes_up_for_missing_inputs() -> None:
    torch.manual_seed(0)
    narrow = AlexNet2012(width=0.25, image_size=63, init="fan-in")
    for name, start in RELEASE.items():
        weight = narrow.get_submodule(name).get_parameter("weight")
        spread = weight.std().item() * math.sqrt(weight.shape[1:].numel())
        full = start.weight_std * math.sqrt(start.fan_in)
        assert spread == pytest.approx(full, rel=5 / math.sqrt(2 * weight.numel()))


def test_biases_of_zero_change_no_weight() -> None:
    started = {}
    for init in ("fan-in", "fan-in-zero-bias"):
        torch.manual_seed(0)
        network = AlexNet2012(width=0.1, image_size=63, init=init)  # type: ignore[arg-type]
        started[init] = network.state_dict()
    for name, tensor in started["fan-in-zero-bias"].items():
        if name.endswith("bias"):
            assert not tensor.any()
        else:
            assert torch.equal(tensor, started["fan-in"][name])


def test_the_start_follows_the_global_seed() -> None:
    first, second = tiny_network().state_dict(), tiny_network().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(ModelError, match="give one of release, fan-in"):
        AlexNet2012(width=0.1, init="xavier")  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize("image_size", [SMALLEST_IMAGE, 37, 38, 39, 64, 96, 111])
def test_any_size_from_the_smallest_works(image_size: int) -> None:
    network = tiny_network(image_size)
    assert network.image_size == image_size
    assert network.num_classes == 10
    assert network(torch.randn(2, 3, image_size, image_size)).shape == (2, 10)


def test_a_size_at_which_a_map_vanishes_is_refused() -> None:
    with pytest.raises(ModelError, match="smallest size that works is 36"):
        AlexNet2012(width=0.1, image_size=SMALLEST_IMAGE - 1)


@pytest.mark.parametrize("shape", [(1, 3, 64, 63), (1, 1, 63, 63), (3, 63, 63)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="give \\(batch, 3, 63, 63\\)"):
        tiny_network()(torch.zeros(shape))


def test_width_scales_each_towers_share_to_a_multiple_of_eight() -> None:
    quarter = AlexNet2012(width=0.25, image_size=63)
    channels = [p.shape[0] for name, p in quarter.named_parameters() if name.endswith("weight")]
    # Shares of 12, 32, 48, 48, 32 and 512; 12 lies between 8 and 16 and rounds to the even one.
    assert channels == [2 * 16, 2 * 32, 2 * 48, 2 * 48, 2 * 32, 1024, 1024, 1000]
    sliver = AlexNet2012(width=0.001, image_size=63)
    assert {p.shape[0] for p in sliver.parameters()} == {16, 1000}


def test_masks_follow_the_sample_not_the_batch() -> None:
    network = tiny_network().train()
    images = torch.randn(4, 3, 63, 63) * 60
    keys = torch.tensor([11, 22, 33, 44])
    together = network(images, keys)
    torch.testing.assert_close(network(images[2:3], keys[2:3]), together[2:3])
    assert not torch.allclose(network(images, keys + 1), together)


def test_dropout_can_be_turned_off() -> None:
    network = AlexNet2012(num_classes=10, image_size=63, width=0.1, dropout=0.0)
    images = torch.randn(2, 3, 63, 63)
    assert torch.equal(network.train()(images), network.eval()(images))


def test_channels_last_gives_the_same_logits() -> None:
    network = tiny_network().eval()
    images = torch.randn(3, 3, 63, 63) * 60
    expected = network(images)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch omits it
    actual = network(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("keys", [None, torch.zeros(0, dtype=torch.int64)])
def test_an_empty_batch_gives_zero_gradients_everywhere(keys: Tensor | None) -> None:
    network = tiny_network().train()
    logits = network(torch.zeros(0, 3, 63, 63), keys)
    labels = torch.zeros(0, dtype=torch.int64)
    functional.cross_entropy(logits, labels, reduction="sum").backward()
    assert logits.shape == (0, 10)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_every_parameter_gets_a_gradient() -> None:
    network = tiny_network().train()
    logits = network(torch.randn(4, 3, 63, 63) * 60, torch.arange(4))
    functional.cross_entropy(logits, torch.arange(4)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
