import pytest
import torch

from alexnet.model import create_model
from alexnet.settings import NetworkSettings, Precision
from alexnet.train.utilisation import flop_per_image
from benchmarks.device_rates import DeviceRates
from benchmarks.step_floor import Cost, WeightLayer, network_cost, step_floor_s, step_flop

FIRST = WeightLayer(macs=1000, inputs=10, outputs=20, weights=5)
SECOND = WeightLayer(macs=40, inputs=20, outputs=2, weights=40)
COST = Cost((FIRST, SECOND), parameters=50)
RATES = DeviceRates(
    flop_per_s={"fp32": 1000.0, "tf32": 8000.0, "bf16": 16_000.0}, bytes_per_s=100.0
)


def cost_of(name: str, image_px: int, num_classes: int = 1000) -> Cost:
    with torch.device("meta"):
        return network_cost(create_model(name, num_classes, image_size=image_px), image_px)


@pytest.mark.parametrize(
    ("precision", "floor_s"),
    [
        # Update: 20 * 50 / 100 = 10 s. A pass of the first on two images: 4,000 operations, and
        # 2 * 30 * 4 + 5 * 4 = 260 bytes; of the second 160, and 2 * 22 * 4 + 40 * 4 = 336.
        ("fp32", 10 + 2 * 4.0 + 3 * 3.36),
        ("tf32", 10 + 2 * 2.6 + 3 * 3.36),
        ("bf16", 10 + 2 * 1.4 + 3 * 2.48),
    ],
)
def test_a_worked_floor(precision: Precision, floor_s: float) -> None:
    assert step_floor_s(COST, 2, precision, RATES) == pytest.approx(floor_s)


def test_the_first_layer_has_no_gradient_of_its_inputs() -> None:
    assert step_flop(COST, 2) == 2 * 4000 + 3 * 160


def test_the_layers_of_2012() -> None:
    """Section 2.1: conv1 takes 3 x 227 x 227, its overhang included, and gives 96 x 55 x 55."""
    cost = cost_of("alexnet-2012", 224)
    assert cost.parameters == 60_965_224
    assert cost.layers[0] == WeightLayer(105_415_200, 154_587, 290_400, 34_848)
    assert cost.layers[-1] == WeightLayer(4_096_000, 4096, 1000, 4_096_000)


@pytest.mark.parametrize(
    ("name", "image_px", "num_classes", "macs"),
    [
        ("alexnet-2012", 224, 1000, 724_406_816),
        ("alexnet-2012-no-communication", 224, 1000, 724_323_872),
        ("alexnet-bn", 227, 1000, 724_406_816),
        ("cifar-11pct", 24, 10, 19_512_576),
    ],
)
def test_multiply_accumulates_are_those_of_the_table(
    name: str, image_px: int, num_classes: int, macs: int
) -> None:
    assert sum(layer.macs for layer in cost_of(name, image_px, num_classes).layers) == macs


def test_operations_are_those_of_the_used_part_of_the_peak() -> None:
    settings = NetworkSettings(name="alexnet-torchvision")
    found = flop_per_image(settings, num_classes=1000, built_px=224, input_px=224)
    assert step_flop(cost_of("alexnet-torchvision", 224), 128) == 128 * found
