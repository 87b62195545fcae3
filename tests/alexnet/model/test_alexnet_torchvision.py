import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.model import AlexNetTorchvision, KeyedDropout, ModelError

# Section 2.4 of the specification: torchvision's state dict, name by name.
STATE = {
    "features.0.weight": (64, 3, 11, 11),
    "features.0.bias": (64,),
    "features.3.weight": (192, 64, 5, 5),
    "features.3.bias": (192,),
    "features.6.weight": (384, 192, 3, 3),
    "features.6.bias": (384,),
    "features.8.weight": (256, 384, 3, 3),
    "features.8.bias": (256,),
    "features.10.weight": (256, 256, 3, 3),
    "features.10.bias": (256,),
    "classifier.1.weight": (4096, 9216),
    "classifier.1.bias": (4096,),
    "classifier.4.weight": (4096, 4096),
    "classifier.4.bias": (4096,),
    "classifier.6.weight": (1000, 4096),
    "classifier.6.bias": (1000,),
}


def tiny_network(image_size: int = 64) -> AlexNetTorchvision:
    torch.manual_seed(0)
    return AlexNetTorchvision(num_classes=10, image_size=image_size, width=0.1)


def test_names_shapes_and_total_are_torchvisions() -> None:
    with torch.device("meta"):
        network = AlexNetTorchvision()
    assert {name: tuple(x.shape) for name, x in network.state_dict().items()} == STATE
    assert sum(p.numel() for p in network.parameters()) == 61_100_840


def test_map_sizes_and_multiply_accumulates_are_torchvisions() -> None:
    with torch.device("meta"):
        network = AlexNetTorchvision().eval()
    sizes: list[int] = []
    macs: list[int] = []

    def record(layer: nn.Module, _: object, out: Tensor) -> None:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            macs.append(layer.weight.numel() * math.prod(out.shape[2:]))
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AdaptiveAvgPool2d):
            sizes.append(out.shape[-1])

    for layer in network.modules():
        layer.register_forward_hook(record)
    network(torch.empty(1, 3, 224, 224, device="meta"))
    assert sizes == [55, 27, 27, 13, 13, 13, 13, 6, 6]
    assert sum(macs) == 714_188_480


def test_dropout_sits_before_fc6_and_fc7_only_and_is_inverted() -> None:
    layers = list(tiny_network().classifier)
    places = [i for i, layer in enumerate(layers) if isinstance(layer, KeyedDropout)]
    assert places == [0, 3]
    for place in places:
        layer = layers[place]
        assert isinstance(layer, KeyedDropout)
        assert layer.inverted
        assert layer.keep == 0.5


def test_evaluation_is_the_plain_sequence_of_layers() -> None:
    network = tiny_network().eval()
    images = torch.randn(2, 3, 64, 64)
    pooled = functional.adaptive_avg_pool2d(network.features(images), (6, 6))
    plain = nn.Sequential(*(x for x in network.classifier if not isinstance(x, KeyedDropout)))
    torch.testing.assert_close(network(images), plain(pooled.flatten(1)))


def test_a_state_dict_of_torchvisions_names_gives_the_outputs_of_its_network() -> None:
    """Its layers written out again, on weights drawn here; section 2.4 of the specification."""
    draw = torch.Generator().manual_seed(3)
    network = tiny_network().eval()
    state = {
        name: torch.randn(value.shape, generator=draw) / math.sqrt(max(1, value[0].numel()))
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state)

    def conv(x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return functional.conv2d(x, weight, bias, stride, padding).relu()

    images = torch.randn(2, 3, 224, 224, generator=draw)
    x = functional.max_pool2d(conv(images, "features.0", 4, 2), 3, 2)
    x = functional.max_pool2d(conv(x, "features.3", 1, 2), 3, 2)
    x = conv(conv(x, "features.6", 1, 1), "features.8", 1, 1)
    x = functional.max_pool2d(conv(x, "features.10", 1, 1), 3, 2).flatten(1)
    for name in ("classifier.1", "classifier.4"):
        x = (x @ state[f"{name}.weight"].T + state[f"{name}.bias"]).relu()
    expected = x @ state["classifier.6.weight"].T + state["classifier.6.bias"]
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


def test_weights_start_from_torchs_defaults() -> None:
    network = tiny_network()
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 11, stride=4, padding=2)
    assert torch.equal(network.features[0].get_parameter("weight"), first.weight)
    assert torch.equal(network.features[0].get_parameter("bias"), first.get_parameter("bias"))


def test_every_layer_starts_from_torchs_defaults_uniform_up_to_one_over_root_fan_in() -> None:
    torch.manual_seed(0)
    network = AlexNetTorchvision(num_classes=10, width=0.25)
    for name, parameter in network.state_dict().items():
        layer = name.rpartition(".")[0]
        limit = 1 / math.sqrt(network.get_parameter(f"{layer}.weight")[0].numel())
        assert float(parameter.abs().max()) <= limit, name
        # Of n uniform draws the measured std is off by 0.45 / sqrt(n) of itself.
        tolerance = 5 * 0.45 / math.sqrt(parameter.numel())
        if parameter.numel() > 100:
            assert float(parameter.std()) == pytest.approx(limit / 3**0.5, rel=tolerance), name


def test_width_scales_to_multiples_of_eight() -> None:
    half = AlexNetTorchvision(width=0.5, num_classes=7)
    widths = [x.shape[0] for name, x in half.state_dict().items() if name.endswith("weight")]
    assert widths == [32, 96, 192, 128, 128, 2048, 2048, 7]
    assert half.classifier[1].get_parameter("weight").shape[1] == 128 * 36


@pytest.mark.parametrize("image_size", [63, 64, 96])
def test_any_size_from_the_smallest_works(image_size: int) -> None:
    network = tiny_network(image_size)
    assert network.image_size == image_size
    assert network.num_classes == 10
    assert network(torch.randn(2, 3, image_size, image_size)).shape == (2, 10)


def test_a_size_at_which_a_map_vanishes_is_refused() -> None:
    with pytest.raises(ModelError, match="smallest size that works is 63"):
        tiny_network(62)


def test_masks_follow_the_sample_not_the_batch() -> None:
    network = tiny_network().train()
    images = torch.randn(4, 3, 64, 64)
    keys = torch.tensor([11, 22, 33, 44])
    together = network(images, keys)
    torch.testing.assert_close(network(images[2:3], keys[2:3]), together[2:3])
    assert not torch.allclose(network(images, keys + 1), together)


@pytest.mark.parametrize("keys", [None, torch.zeros(0, dtype=torch.int64)])
def test_an_empty_batch_gives_zero_gradients_everywhere(keys: Tensor | None) -> None:
    network = tiny_network().train()
    logits = network(torch.zeros(0, 3, 64, 64), keys)
    labels = torch.zeros(0, dtype=torch.int64)
    functional.cross_entropy(logits, labels, reduction="sum").backward()
    assert logits.shape == (0, 10)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name
