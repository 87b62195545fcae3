"""Training steps of our networks beside torchvision's AlexNet in torch's own modules, on a device.

Made for a GPU that is there for a minute: everything in one process, a table on standard output.
First of all, without dropout, our step and torch's own must give the same losses to the bit.

    python -m benchmarks.gpu_steps                      # 45 measurements of half a second
    python -m benchmarks.gpu_steps --compiled           # those too that went through torch.compile
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.model import create_model
from alexnet.model.alexnet_torchvision import AlexNetTorchvision
from alexnet.model.dropout import KeyedDropout
from alexnet.settings import OptimizerSettings, Precision
from alexnet.train.compiled import compile_network
from alexnet.train.optimizer import build_optimizer, set_rates
from alexnet.train.precision import forward_in, multiplying_in
from alexnet.train.schedule import Rates
from alexnet.train.step import StepInputs, StepOptions, train_step

NETWORKS: Final = ("alexnet-torchvision", "alexnet-2012", "alexnet-one-tower", "alexnet-bn")
BASE: Final = "torchvision's, plain"
FLOOR: Final = 0.95
"""Of the plain network's images a second, for `alexnet-torchvision` without a compiler."""
EQUAL_STEPS: Final = 5
RATE: Final = 0.01
RULE: Final = OptimizerSettings(kind="sgd", weight_decay=0.0001, decay_all=True)

Step = Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: a network, how it multiplies, and on how many images at once."""

    network: str
    precision: Precision
    batch: int
    is_compiled: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """Of images and networks; the full one but in tests."""

    image_px: int = 224
    num_classes: int = 1000
    width: float = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, measure and print; 1 where losses differ or the floor is not reached."""
    options = _parser().parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = Size(options.image_px, options.num_classes, options.width)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}\n")
    differing = [batch for batch in options.batches if not losses_agree(size, batch, device)]
    for batch in differing:
        print(f"batch {batch}: losses differ from those of torch's own modules", file=sys.stderr)
    print("| network | precision | batch | compiled | images/s | of torchvision's |")
    print("| --- | --- | ---: | --- | ---: | ---: |", flush=True)
    lowest = 1.0
    for case, rate, part in measure(options, size, device):
        is_compiled = "yes" if case.is_compiled else ""
        print(
            f"| {case.network} | {case.precision} | {case.batch} | {is_compiled} | {rate:,.0f} |"
            f" {part:.2f} |",
            flush=True,
        )
        if case.network == NETWORKS[0] and not case.is_compiled:
            lowest = min(lowest, part)
    if lowest < FLOOR:
        print(f"{NETWORKS[0]} reached {lowest:.2f}, below {FLOOR}", file=sys.stderr)
    return 1 if differing or lowest < FLOOR else 0


def losses_agree(size: Size, batch: int, device: torch.device) -> bool:
    """Tell whether both ways of stepping have the same losses to the bit, in float32.

    Args:
        size: of the network, which has no dropout here.
        batch: a power of two, or dividing by it rounds in one way and not in the other.
        device: on which.
    """
    cases = (Case(NETWORKS[0], "fp32", batch), Case(BASE, "fp32", batch))
    ours, plain = (_step(case, size, device, dropout=0.0) for case in cases)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        return all(torch.equal(ours(), plain()) for _ in range(EQUAL_STEPS))


def measure(
    options: argparse.Namespace, size: Size, device: torch.device
) -> Iterator[tuple[Case, float, float]]:
    """Give each case, its images a second, and that in parts of the plain network's."""
    for precision, batch in product(options.precisions, options.batches):
        base = _images_per_s(Case(BASE, precision, batch), size, device, options.seconds)
        yield Case(BASE, precision, batch), base, 1.0
        for is_compiled in (False, True) if options.compiled else (False,):
            for network in options.networks:
                case = Case(network, precision, batch, is_compiled)
                rate = _images_per_s(case, size, device, options.seconds)
                yield case, rate, rate / base


def _images_per_s(case: Case, size: Size, device: torch.device, seconds: float) -> float:
    step = _step(case, size, device, dropout=0.5)
    for _ in range(3):
        step()
    steps, started_s = 0, _now(device)
    while (elapsed_s := _now(device) - started_s) < seconds:
        for _ in range(4):  # between two looks, which wait for the device
            step()
        steps += 4
    return steps * case.batch / elapsed_s


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _step(case: Case, size: Size, device: torch.device, *, dropout: float) -> Step:
    torch.manual_seed(0)
    images = torch.randn(case.batch, 3, size.image_px, size.image_px, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(size.num_classes, (case.batch,), device=device)
    torch.manual_seed(1)
    if case.network == BASE:
        return _plain_step(case, size, images, labels, dropout)
    with device:  # drawn there: 61 million weights take a second on a CPU
        network = _ours(case.network, size, dropout)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
    if case.is_compiled:
        torch._dynamo.reset()  # else the last of many cases would quietly not be compiled
        compile_network(network, size.image_px, case.precision)
    optimizer = build_optimizer(network, RULE)
    set_rates(optimizer, Rates(weight_rate=RATE, bias_rate=RATE))
    inputs = StepInputs(images, labels, torch.arange(case.batch, device=device))
    options = StepOptions(precision=case.precision)

    def step() -> Tensor:
        total = train_step(
            network, optimizer, inputs, world_size=1, batch_rows=case.batch, options=options
        )
        return total / case.batch

    return step


def _plain_step(case: Case, size: Size, images: Tensor, labels: Tensor, dropout: float) -> Step:
    with images.device:
        network = plain_alexnet(size, dropout)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=RATE,
        momentum=RULE.momentum,
        weight_decay=RULE.weight_decay,
        fused=images.is_cuda,  # as ours: other kernels round otherwise
    )

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with multiplying_in(case.precision):
            with forward_in(case.precision, images.device):
                logits = network(images)
            loss = functional.cross_entropy(logits.float(), labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        return loss.detach()

    return step


def plain_alexnet(size: Size, dropout: float) -> nn.Sequential:
    """Make torchvision's AlexNet of torch's own modules, with the weights that ours starts from.

    Source: torchvision, `models/alexnet.py`.
    """
    ours = _ours(NETWORKS[0], size, dropout)
    assert isinstance(ours, AlexNetTorchvision)
    head = [
        nn.Dropout(dropout) if isinstance(layer, KeyedDropout) else layer
        for layer in ours.classifier
    ]
    return nn.Sequential(*ours.features, ours.avgpool, nn.Flatten(), *head)


def _ours(name: str, size: Size, dropout: float) -> nn.Module:
    return create_model(
        name,
        num_classes=size.num_classes,
        image_size=size.image_px,
        width=size.width,
        dropout=dropout,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_steps", description=__doc__)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--batches", nargs="*", type=int, default=[128, 512, 1024], metavar="N")
    parser.add_argument("--precisions", nargs="*", default=list(get_args(Precision)))
    parser.add_argument("--compiled", action="store_true", help="those too, which takes minutes")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--image-px", type=int, default=224)
    parser.add_argument("--num-classes", type=int, default=1000)
    parser.add_argument("--width", type=float, default=1.0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
