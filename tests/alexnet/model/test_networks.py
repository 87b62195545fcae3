"""What arithmetic says of every network, and every network against itself written out."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.model import (
    AlexNet2012,
    LayeredNetwork,
    LocallyConnected,
    ModelError,
    TowerLinear,
    create_model,
    list_models,
)
from alexnet.model.registry import DESCRIPTIONS
from alexnet.model.release_networks import TWO_TOWERS
from tests.alexnet.model.network_reference import STEPS, average, written_out

ROOT = Path(__file__).resolve().parents[3]
Counts = tuple[int, tuple[int, ...], int]
ALEXNETS = sorted(name for name in DESCRIPTIONS if not name.startswith("cifar"))
CIFARS = sorted(name for name in DESCRIPTIONS if name.startswith("cifar"))

# Section 2.3: parameters, shape of the output, multiply-accumulates.
ONE_TOWER = {
    "conv1": (23_296, (64, 55, 55), 70_276_800),
    "conv2": (307_392, (192, 27, 27), 223_948_800),
    "conv3": (663_936, (384, 13, 13), 112_140_288),
    "conv4": (884_992, (256, 13, 13), 149_520_384),
    "conv5": (590_080, (256, 13, 13), 99_680_256),
    "fc6": (37_752_832, (4096,), 37_748_736),
    "fc7": (16_781_312, (4096,), 16_777_216),
    "fc8": (4_097_000, (1000,), 4_096_000),
}
# Section 2.6: parameters and shape of the output of each layer, then all multiply-accumulates.
CIFAR: dict[tuple[str, int], tuple[dict[str, tuple[int, tuple[int, ...]]], int, int]] = {
    ("cifar-18pct", 32): (
        {
            "conv1": (2_432, (32, 32, 32)),
            "conv2": (25_632, (32, 16, 16)),
            "conv3": (51_264, (64, 8, 8)),
            "fc10": (10_250, (10,)),
        },
        89_578,
        12_298_240,
    ),
    ("cifar-13pct", 32): (
        {
            "conv1": (4_864, (64, 32, 32)),
            "conv2": (102_464, (64, 16, 16)),
            "local3": (1_181_696, (32, 8, 8)),
            "local4": (591_872, (32, 8, 8)),
            "fc10": (20_490, (10,)),
        },
        1_901_386,
        32_919_552,
    ),
    ("cifar-13pct", 24): (
        {
            "conv1": (4_864, (64, 24, 24)),
            "conv2": (102_464, (64, 12, 12)),
            "local3": (664_704, (32, 6, 6)),
            "local4": (332_928, (32, 6, 6)),
            "fc10": (11_530, (10,)),
        },
        1_116_490,
        18_517_248,
    ),
    ("cifar-11pct", 24): (
        {
            "conv1": (4_864, (64, 24, 24)),
            "conv2": (102_464, (64, 12, 12)),
            "local3": (1_329_408, (64, 6, 6)),
            "local4": (664_704, (32, 6, 6)),
            "fc10": (11_530, (10,)),
        },
        2_112_970,
        19_512_576,
    ),
}
# Section 2.5, and 2.7's published file: parameters, multiply-accumulates where they are given.
TOTALS = {
    "alexnet-2012-conv5-norm": (60_965_224, 724_406_816),
    "alexnet-2012-no-block2-norm": (60_965_224, 724_406_816),
    "alexnet-2012-no-communication": (60_714_408, 724_323_872),
    "alexnet-2012-no-norm": (60_965_224, 724_406_816),
    "alexnet-2012-norm-before-relu": (60_965_224, 724_406_816),
    "alexnet-2012-one-column": (59_798_312, 391_514_384),
    "alexnet-2012-plain-pooling": (60_965_224, 686_891_552),
    "alexnet-2012-six-convs": (61_555_304, 745_640_480),
    "alexnet-bn-last": (60_965_224, 724_406_816),
    "alexnet-one-tower": (61_100_840, 714_188_480),
    "alexnet-paper": (60_965_224, 724_406_816),
}
RELEASE_START = {
    "conv1": (0.01, 0),
    "conv2": (0.01, 1),
    "conv3": (0.03, 0),
    "conv4": (0.03, 1),
    "conv5": (0.03, 1),
    "fc6": (0.01, 1),
    "fc7": (0.01, 1),
    "fc8": (0.01, 0),
}
CIFAR_START = {"conv1": (1e-4, 0), "conv2": (0.01, 0), "conv3": (0.01, 0), "fc10": (0.01, 0)}
LOCAL_START = {"local3": (0.04, 0), "local4": (0.04, 0)}
# Sections 2.2 to 2.7: standard deviation of the weights, value of the biases.
STARTS: dict[str, dict[str, tuple[float, float]]] = {
    **{name: RELEASE_START for name in ALEXNETS if name.startswith("alexnet-2012")},
    "alexnet-2012-six-convs": RELEASE_START | {"conv6": (0.03, 1)},
    "alexnet-paper": {name: (0.01, bias) for name, (_, bias) in RELEASE_START.items()},
    "alexnet-one-tower": RELEASE_START | {"fc8": (0.01, -7)},
    "alexnet-bn-last": {
        **{f"conv{number}": (0.01, 0.01) for number in range(1, 6)},
        "fc6": (0.005, 0.1),
        "fc7": (0.005, 0.1),
        "fc8": (0.01, 0.01),
    },
    "cifar-18pct": CIFAR_START,
    "cifar-80sec": CIFAR_START | {"fc64": (0.1, 0), "fc10": (0.1, 0)},
    "cifar-13pct": {k: v for k, v in CIFAR_START.items() if k != "conv3"} | LOCAL_START,
    "cifar-11pct": {k: v for k, v in CIFAR_START.items() if k != "conv3"} | LOCAL_START,
}


def counted(name: str, image_size: int, num_classes: int = 1000) -> dict[str, Counts]:
    """Each weight layer's parameters, output and multiply-accumulates; computed without data."""
    with torch.device("meta"):
        network = create_model(name, num_classes, image_size=image_size).eval()
    found: dict[str, Counts] = {}
    for layer_name, layer in network.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear | LocallyConnected | TowerLinear):

            def record(
                layer: nn.Module, _: object, out: Tensor, layer_name: str = layer_name
            ) -> None:
                uses = math.prod(out.shape[2:]) if isinstance(layer, nn.Conv2d) else 1
                macs = layer.get_parameter("weight").numel() * uses
                count = sum(p.numel() for p in layer.parameters())
                found[layer_name] = (count, tuple(out.shape[1:]), macs)

            layer.register_forward_hook(record)
    network(torch.empty(2, 3, image_size, image_size, device="meta"))
    assert sum(count for count, _, _ in found.values()) == sum(
        p.numel() for p in network.parameters()
    )
    return found


def small(name: str, **options: Any) -> LayeredNetwork:
    """Narrow, with a signal that reaches the logits and biases that matter; evaluating."""
    torch.manual_seed(0)
    network = create_model(name, 10, width=0.1, **options)
    assert isinstance(network, LayeredNetwork)
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif key.endswith("running_mean"):
            value.normal_()
        elif key.endswith("bias"):
            value.normal_(std=0.3)
        else:
            fan_in = value.shape[1:].numel() if value.dim() != 3 else value.shape[1]
            value.normal_(std=1.5 / math.sqrt(fan_in))
    return network.eval()


def smallest(name: str) -> int:
    return DESCRIPTIONS[name].smallest_image()


def images_of(size: int, batch: int = 2, std: float = 60.0) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1)) * std


def test_the_table_of_the_one_tower_network() -> None:
    found = counted("alexnet-one-tower", 224)
    assert found == ONE_TOWER
    assert sum(math.prod(shape) for _, shape, _ in found.values()) == 494_184


@pytest.mark.parametrize(("name", "size"), list(CIFAR))
def test_the_tables_of_the_cifar_networks(name: str, size: int) -> None:
    layers, parameters, macs = CIFAR[name, size]
    found = counted(name, size, 10)
    assert {key: (count, shape) for key, (count, shape, _) in found.items()} == layers
    assert sum(count for count, _, _ in found.values()) == parameters
    assert sum(macs for _, _, macs in found.values()) == macs


def test_the_80_second_networks_parameters() -> None:
    assert sum(count for count, _, _ in counted("cifar-80sec", 32, 10).values()) == 145_578


@pytest.mark.parametrize("name", list(TOTALS))
def test_totals_at_full_size(name: str) -> None:
    found = counted(name, DESCRIPTIONS[name].image_size)
    totals = sum(c for c, _, _ in found.values()), sum(macs for _, _, macs in found.values())
    assert totals == TOTALS[name]


def test_no_network_is_left_out_of_these_tables() -> None:
    assert set(TOTALS) == set(ALEXNETS)
    assert set(STARTS) == set(STEPS) == set(DESCRIPTIONS)


def test_six_convolutions_with_the_classes_of_2009() -> None:
    found = counted("alexnet-2012-six-convs", 224, 10_184)
    assert sum(count for count, _, _ in found.values()) == 99_182_152
    assert sum(macs for _, _, macs in found.values()) == 783_258_144
    assert found["conv6"][1] == (256, 6, 6)


def documented() -> dict[str, tuple[int, int, int]]:
    """Image size, parameters and multiply-accumulates by network, from the page's table."""
    found = {}
    for line in (ROOT / "docs" / "networks.md").read_text().splitlines():
        if line.startswith("| `"):
            name, *numbers, _ = (cell.strip(" `") for cell in line.strip("|").split("|"))
            size, parameters, macs = (int(number.replace(",", "")) for number in numbers)
            found[name] = (size, parameters, macs)
    return found


@pytest.mark.parametrize("name", list_models())
def test_the_page_of_networks_tells_their_sizes(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name, 10 if name in CIFARS else 1000).eval()
    macs: list[int] = []

    def record(layer: nn.Module, _: object, out: Tensor) -> None:
        uses = math.prod(out.shape[2:]) if isinstance(layer, nn.Conv2d) else 1
        macs.append(layer.get_parameter("weight").numel() * uses)

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | LocallyConnected | TowerLinear):
            layer.register_forward_hook(record)
    size = network.image_size
    network(torch.empty(1, 3, size, size, device="meta"))
    parameters = sum(p.numel() for p in network.parameters())
    assert documented()[name] == (size, parameters, sum(macs))


def map_sizes(name: str) -> list[int]:
    with torch.device("meta"):
        network = create_model(name)
    sizes: list[int] = [224]
    for layer in network.children():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    return sizes


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("alexnet-2012-no-norm", [224, 55, 27, 27, 13, 13, 13, 13, 6]),
        ("alexnet-2012-plain-pooling", [224, 55, 28, 26, 13, 13, 13, 11, 6]),
        ("alexnet-2012-six-convs", [224, 55, 27, 27, 13, 13, 13, 13, 6, 6]),
    ],
)
def test_map_sizes(name: str, sizes: list[int]) -> None:
    assert map_sizes(name) == sizes


def receptive_fields(name: str) -> dict[str, tuple[int, int]]:
    """Side and stride in pixels of what a unit sees, after each layer that looks at windows."""
    with torch.device("meta"):
        network = create_model(name)
    field, stride, found = 1, 1, {}
    for layer_name, layer in network.named_children():
        if layer_name.startswith("fc"):
            break
        window, step = 1, 1
        if isinstance(layer, nn.Conv2d):
            window, step = layer.kernel_size[0], layer.stride[0]
        elif isinstance(layer, nn.MaxPool2d):
            window, step = int(layer.kernel_size), int(layer.stride)
        elif layer_name.endswith("within"):
            window = int(layer.size)
        if window > 1:
            field, stride = field + (window - 1) * stride, stride * step
            found[layer_name] = (field, stride)
    return found


def test_receptive_fields_without_the_norm_within_maps() -> None:
    assert receptive_fields("alexnet-one-tower") == {
        "conv1": (11, 4),
        "conv1_pool": (19, 8),
        "conv2": (51, 8),
        "conv2_pool": (67, 16),
        "conv3": (99, 16),
        "conv4": (131, 16),
        "conv5": (163, 16),
        "conv5_pool": (195, 32),
    }


def test_receptive_fields_with_the_norm_within_maps() -> None:
    fields = receptive_fields("alexnet-2012-norm-before-relu")
    assert [field for field, _ in fields.values()] == [11, 19, 51, 83, 99, 131, 163, 195, 227]


def test_receptive_fields_of_net_145_as_measured() -> None:
    """A pixel that is no number makes every unit that looks at it one that is none either."""
    network = AlexNet2012(num_classes=10, width=0.001).eval()
    images = torch.zeros(224, 3, 224, 224)
    images[range(224), :, :, range(224)] = math.nan  # of each image another column
    columns: list[int] = []

    def count_seen(_layer: nn.Module, _inputs: object, out: Tensor) -> None:
        if out.dim() == 4:
            middle = out.shape[-1] // 2
            columns.append(int(out[:, 0, middle, middle].isnan().sum()))

    for layer in network.children():
        layer.register_forward_hook(count_seen)
    with torch.no_grad():
        for part in images.split(32):
            network(part)
    by_layer = torch.tensor(columns).view(7, -1).sum(0).tolist()
    # conv1, norm, pool, conv2, two norms, pool, conv3 to conv5; the last pool sees past the border.
    assert by_layer[:10] == [11, 11, 19, 51, 51, 83, 99, 131, 163, 195]


@pytest.mark.parametrize("name", list(STARTS))
def test_weights_and_biases_start_as_their_source_says(name: str) -> None:
    torch.manual_seed(0)
    narrow = {} if name in CIFARS else {"width": 0.25, "image_size": 64}
    network = create_model(name, 10, **narrow)
    layers = {key.rpartition(".")[0] for key, _ in network.named_parameters()}
    assert layers == set(STARTS[name])
    for layer, (std, bias) in STARTS[name].items():
        weight = network.get_parameter(f"{layer}.weight")
        # Five standard errors of each measure; that of a mean of |w| is 0.756 of a std's, times
        # sqrt(2), of its own.
        tolerance = 5 / math.sqrt(2 * weight.numel())
        assert weight.std().item() == pytest.approx(std, rel=tolerance)
        assert weight.abs().mean().item() == pytest.approx(std * 0.797885, rel=1.1 * tolerance)
        assert abs(weight.mean().item()) < 5 * std / math.sqrt(weight.numel())
        assert (network.get_parameter(f"{layer}.bias") == bias).all()


@pytest.mark.parametrize("name", CIFARS)
def test_cifar_networks_start_at_chance(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, 10)
    with torch.no_grad():
        logits = network(images_of(network.image_size, 20))
    loss = functional.cross_entropy(logits, torch.arange(20) % 10)
    assert loss.item() == pytest.approx(math.log(10), abs=0.02)


@pytest.mark.parametrize("name", sorted(STEPS))
def test_every_network_is_its_specification_written_out(name: str) -> None:
    size = 14 if name in CIFARS else 79
    network = small(name, image_size=size).double()
    images = images_of(size)
    with torch.no_grad():
        expected = written_out(name, network.state_dict(), images)
        assert expected.std() > 1e-2
        torch.testing.assert_close(network(images.double()), expected, rtol=1e-9, atol=1e-9)


def test_the_table_of_net_145_is_the_network_of_2012_bit_for_bit() -> None:
    options = {"num_classes": 10, "image_size": 64, "width": 0.1}
    for init in ("release", "fan-in", "fan-in-zero-bias"):
        torch.manual_seed(0)
        ours = AlexNet2012(**options, init=init)  # type: ignore[arg-type]  # known to be right
        torch.manual_seed(0)
        table = LayeredNetwork(TWO_TOWERS, **options, init=init)  # type: ignore[arg-type]
        mine, theirs = table.state_dict(), ours.state_dict()
        assert list(mine) == list(theirs)
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
        images, keys = images_of(64, 4), torch.arange(4)
        assert torch.equal(table(images, keys), ours(images, keys))


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_the_smallest_image_is_the_smallest(name: str) -> None:
    least = smallest(name)
    network = create_model(name, 10, image_size=least, width=0.1)
    assert network(images_of(least)).shape == (2, 10)
    with pytest.raises(ModelError, match=f"smallest size that works is {least}"):
        create_model(name, 10, image_size=least - 1, width=0.1)


@pytest.mark.parametrize(
    "name", ["alexnet-2012-no-communication", "alexnet-paper", "cifar-11pct", "cifar-18pct"]
)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    network = small(name, image_size=smallest(name) + 2).double().train()
    names = [key for key, _ in network.named_parameters()]
    keys = torch.tensor([3, 4])

    def run(images: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        logits: Tensor = torch.func.functional_call(network, given, (images, keys))
        return logits

    images = images_of(network.image_size, std=1.0).double().requires_grad_()
    assert torch.autograd.gradcheck(run, (images, *network.parameters()), fast_mode=True)


@pytest.mark.parametrize("name", ["alexnet-paper", "alexnet-bn-last"])
def test_masks_follow_the_sample_and_are_scaled_as_the_source_does(name: str) -> None:
    network = create_model(name, 10, image_size=64, width=0.1)
    layer = network.get_submodule("fc6_dropout")
    images, keys = torch.ones(64, 100), torch.arange(64)
    inverted = name == "alexnet-bn-last"
    assert set(layer.train()(images, keys).unique().tolist()) == {0.0, 2.0 if inverted else 1.0}
    assert (layer.eval()(images) == (1.0 if inverted else 0.5)).all()
    other = network.get_submodule("fc7_dropout").train()(images, keys)
    assert not torch.equal(layer.train()(images, keys), other)


def test_masks_do_not_depend_on_the_batch() -> None:
    network = small("alexnet-one-tower", image_size=64).double().train()
    images, keys = images_of(64, 4).double(), torch.tensor([11, 22, 33, 44])
    together = network(images, keys)
    torch.testing.assert_close(network(images[2:3], keys[2:3]), together[2:3])
    assert not torch.allclose(network(images, keys + 1), together)


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_every_parameter_gets_a_gradient_and_an_empty_batch_gives_zeros(name: str) -> None:
    network = small(name, image_size=64 if name in ALEXNETS else 16).train()
    functional.cross_entropy(network(images_of(network.image_size, 4)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    network.zero_grad()
    if name != "alexnet-bn-last":  # torch refuses a batch norm of nothing; ours takes ranks' shares
        logits = network(images_of(network.image_size, 0))
        functional.cross_entropy(logits, torch.arange(0), reduction="sum").backward()
        assert all(p.grad is not None and not p.grad.any() for p in network.parameters())


def test_fan_in_start_makes_up_for_missing_inputs() -> None:
    torch.manual_seed(0)
    network = create_model(
        "alexnet-2012-no-communication", 10, image_size=64, width=0.25, init="fan-in"
    )
    weight = network.get_parameter("fc6.weight")
    assert weight.shape == (2, 1024, 32)
    expected = 0.01 * math.sqrt(4608 / 32)
    assert weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.numel()))


def test_dropout_where_there_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match="this network has no dropout"):
        create_model("cifar-18pct", 10, dropout=0.5)
    assert create_model("cifar-18pct", 10, dropout=0.0).image_size == 32


def test_another_start_and_other_shapes_are_refused() -> None:
    with pytest.raises(ModelError, match="give one of release, fan-in"):
        create_model("alexnet-paper", 10, width=0.1, image_size=64, init="xavier")
    with pytest.raises(ModelError, match=r"give \(batch, 3, 32, 32\)"):
        create_model("cifar-18pct", 10)(torch.zeros(1, 3, 31, 32))


@pytest.mark.parametrize("side", [3, 4, 5, 8, 12])
def test_pools_clip_their_windows_and_means_count_what_is_inside(side: int) -> None:
    maps = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2)).double()
    network = create_model("cifar-18pct", 10, width=0.1)
    torch.testing.assert_close(network.get_submodule("conv2_pool")(maps), average(maps))
    starts = range(0, 2 * math.ceil((side - 3) / 2) + 1, 2)
    largest = [[maps[..., r : r + 3, c : c + 3].amax((2, 3)) for c in starts] for r in starts]
    expected = torch.stack([torch.stack(row, -1) for row in largest], -2)
    assert torch.equal(network.get_submodule("conv1_pool")(maps), expected)
