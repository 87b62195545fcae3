"""Steps to measure a device with: our networks', and torchvision's AlexNet's in torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.model import create_model
from alexnet.model.alexnet_torchvision import AlexNetTorchvision
from alexnet.model.dropout import KeyedDropout
from alexnet.settings import OptimizerSettings, Precision
from alexnet.train.compiled import COMPILE_OPTIONS, compile_network
from alexnet.train.optimizer import build_optimizer, set_rates
from alexnet.train.precision import forward_in, multiplying_in
from alexnet.train.schedule import Rates
from alexnet.train.step import StepInputs, StepOptions, train_step
from benchmarks.step_floor import Cost, network_cost

OURS: Final = "alexnet-torchvision"
BASE: Final = "torchvision's, plain"
"""The same network of torch's own modules, and stepped without us."""
EQUAL_STEPS: Final = 5
RATE: Final = 0.01
RULE: Final = OptimizerSettings(kind="sgd", weight_decay=0.0001, decay_all=True)

Step = Callable[[], Tensor]
Program = Callable[[int], Step]
"""A network that was built, and compiled, once: gives steps on a batch of any size."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: a network, how it multiplies, and on how many images at once."""

    network: str
    precision: Precision
    batch: int
    is_compiled: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """Of images and networks."""

    image_px: int = 224
    num_classes: int = 1000
    width: float = 1.0
    dropout: float = 0.5


def size_of(network: str, *, quick: bool) -> Size:
    """Return the size that a network was made for; one of a few channels and pixels where quick."""
    name = OURS if network == BASE else network
    with torch.device("meta"):
        image_px = create_model(name).image_size
    size = Size(image_px=image_px)
    if name.startswith("cifar-"):  # small already, and without dropout
        size = Size(image_px=image_px, num_classes=10, dropout=0.0)
    if not quick:
        return size
    return replace(size, image_px=min(image_px, 67), num_classes=10, width=0.05)


def cost_of(network: str, size: Size) -> Cost:
    """Count what a step multiplies and moves; nothing is computed."""
    with torch.device("meta"):
        built = _ours(OURS if network == BASE else network, size)
        return network_cost(built, size.image_px)


def losses_agree(size: Size, batch: int, device: torch.device) -> bool:
    """Tell whether both ways of stepping have the same losses to the bit, in float32.

    Args:
        size: of the network; its dropout is left out.
        batch: a power of two, or dividing by it rounds in one way and not in the other.
        device: on which.
    """
    cases = (Case(OURS, "fp32", batch), Case(BASE, "fp32", batch))
    ours, plain = (build_program(case, replace(size, dropout=0.0), device)(batch) for case in cases)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        return all(torch.equal(ours(), plain()) for _ in range(EQUAL_STEPS))


def build_program(case: Case, size: Size, device: torch.device) -> Program:
    """Build a network on a device, compile it where told, and give its steps on drawn images."""
    torch.manual_seed(1)
    if case.is_compiled:
        torch._dynamo.reset()  # else the last of many cases would quietly not be compiled
    if case.network == BASE:
        return _plain_program(case, size, device)
    with device:  # drawn there: 61 million weights take a second on a CPU
        network = _ours(case.network, size)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
    if case.is_compiled:
        compile_network(network, size.image_px, case.precision)
    optimizer = build_optimizer(network, RULE)
    set_rates(optimizer, Rates(weight_rate=RATE, bias_rate=RATE))
    options = StepOptions(precision=case.precision)

    def stepping(batch: int) -> Step:
        images, labels = _draw(batch, size, device)
        inputs = StepInputs(images, labels, torch.arange(batch, device=device))

        def step() -> Tensor:
            total = train_step(
                network, optimizer, inputs, world_size=1, batch_rows=batch, options=options
            )
            return total / batch

        return step

    return stepping


def _plain_program(case: Case, size: Size, device: torch.device) -> Program:
    with device:
        network = plain_alexnet(size)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
    if case.is_compiled:  # for each batch anew, which is the quickest
        network.compile(options=COMPILE_OPTIONS, dynamic=False)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=RATE,
        momentum=RULE.momentum,
        weight_decay=RULE.weight_decay,
        fused=device.type == "cuda",  # as ours: other kernels round otherwise
    )

    def stepping(batch: int) -> Step:
        images, labels = _draw(batch, size, device)

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            with multiplying_in(case.precision):
                with forward_in(case.precision, device):
                    logits = network(images)
                loss = functional.cross_entropy(logits.float(), labels)
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            return loss.detach()

        return step

    return stepping


def _draw(batch: int, size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images = torch.randn(batch, 3, size.image_px, size.image_px, device=device)
    labels = torch.randint(size.num_classes, (batch,), device=device)
    return images.contiguous(memory_format=torch.channels_last), labels


def plain_alexnet(size: Size) -> nn.Sequential:
    """Make torchvision's AlexNet of torch's own modules, with the weights that ours starts from.

    Source: torchvision, `models/alexnet.py`.
    """
    ours = _ours(OURS, size)
    assert isinstance(ours, AlexNetTorchvision)
    head = [
        nn.Dropout(size.dropout) if isinstance(layer, KeyedDropout) else layer
        for layer in ours.classifier
    ]
    return nn.Sequential(*ours.features, ours.avgpool, nn.Flatten(), *head)


def _ours(name: str, size: Size) -> nn.Module:
    return create_model(
        name,
        num_classes=size.num_classes,
        image_size=size.image_px,
        width=size.width,
        dropout=size.dropout,
    )
