"""Our training step beside the same network in torch's own modules, each in processes of its own.

Of its own, because the allocator's setting holds for a process. `python -m benchmarks.training_step
ours|plain` is one such process: it takes one pass and prints it.
"""

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alexnet.counter_rng import keys_of, stream_key
from alexnet.counter_rng_torch import keys_to_tensor
from alexnet.model.alexnet_2012 import AlexNet2012
from alexnet.settings import OptimizerSettings
from alexnet.train.optimizer import build_optimizer, set_rates
from alexnet.train.precision import multiplying_in
from alexnet.train.schedule import Rates
from alexnet.train.step import StepInputs, train_step
from benchmarks.passes import Pass, Results, Stamp, Subject, compare, make_pass
from benchmarks.plain_network import plain_twin
from benchmarks.settings import Settings
from infra.allocator import keep_memory

if TYPE_CHECKING:
    from benchmarks.bench import Bench  # Ray, which the processes below have no use for

FLOOR: Final = 1.3
WARM_UP_STEPS: Final = 2
MIN_STEPS: Final = 4
ROOT: Final = Path(__file__).parents[1]

Kind = Literal["ours", "plain"]

RATES: Final = Rates(weight_rate=0.01, bias_rate=0.02)
OPTIMIZER: Final = OptimizerSettings()

WHAT: Final[dict[Kind, str]] = {
    "plain": "forward, loss, backward, update of alexnet-2012 in torch's modules:"
    " nn.LocalResponseNorm, nn.Dropout, contiguous, torch.optim.SGD, malloc as it comes; fp32",
    "ours": "the same with alexnet.create_model, its dropout keyed by the sample, channels_last,"
    " MomentumSgd, memory kept; fp32",
}


def measure(bench: "Bench") -> Results:
    """Measure ours in turn with the plain one, a process each time."""
    return compare(
        "training step, ours / plain torch modules",
        _subject("plain", bench),
        _subject("ours", bench),
        quantity="whole",
        num_passes=bench.settings.passes,
        floor=FLOOR,
    )


def _subject(kind: Kind, bench: "Bench") -> Subject:
    threads = bench.placement.threads_per_worker
    return Subject(
        name=f"training step, {kind}",
        what=WHAT[kind],
        take=lambda: take_in_process(kind, bench.settings, threads),
    )


def take_in_process(kind: Kind, settings: Settings, threads: int) -> Pass:
    """Take one pass in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.training_step", kind, f"--threads={threads}"]
    done = subprocess.run(
        [*command, f"--settings={settings.model_dump_json()}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return Pass.model_validate_json(done.stdout)


def take(kind: Kind, settings: Settings, device: torch.device) -> Pass:
    """Take one pass in this process: some steps to warm up, then `seconds` of them."""
    step = (_our_step if kind == "ours" else _plain_step)(settings, device)
    _run(step, WARM_UP_STEPS, device)
    steps = max(MIN_STEPS, math.ceil(settings.seconds / _run(step, 1, device)))
    started_s = time.perf_counter()
    elapsed_s = _run(step, steps, device)
    return make_pass(started_s, [[Stamp(started_s + elapsed_s, steps * settings.global_batch)]])


def _run(step: Callable[[], None], count: int, device: torch.device) -> float:
    """Return the seconds that so many steps take."""
    _finish(device)
    started_s = time.perf_counter()
    for _ in range(count):
        step()
    _finish(device)
    return time.perf_counter() - started_s


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _our_step(settings: Settings, device: torch.device) -> Callable[[], None]:
    network = _network(settings).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
    images, labels = _batch(settings, device)
    images = images.to(memory_format=torch.channels_last)
    ids = np.arange(settings.global_batch, dtype=np.int64)
    sample_keys = keys_to_tensor(keys_of(stream_key(0, "dropout", 0), ids), device)
    inputs = StepInputs(images, labels, sample_keys)
    optimizer = build_optimizer(network, OPTIMIZER)
    set_rates(optimizer, RATES)

    def step() -> None:
        train_step(
            network,
            optimizer,
            inputs,
            world_size=1,
            batch_rows=settings.global_batch,
        )

    return step


def _plain_step(settings: Settings, device: torch.device) -> Callable[[], None]:
    network = plain_twin(_network(settings)).to(device)
    images, labels = _batch(settings, device)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=RATES.weight_rate,
        momentum=OPTIMIZER.momentum,
        weight_decay=OPTIMIZER.weight_decay,
    )

    def step() -> None:
        optimizer.zero_grad()
        with multiplying_in("fp32"):  # as ours
            loss = functional.cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()

    return step


def _network(settings: Settings) -> AlexNet2012:
    torch.manual_seed(0)
    return AlexNet2012(
        num_classes=settings.num_classes, image_size=settings.crop_px, width=settings.width
    )


def _batch(settings: Settings, device: torch.device) -> tuple[Tensor, Tensor]:
    """Make normalised images, (n, 3, height, width) float32, and labels."""
    generator = torch.Generator().manual_seed(0)
    shape = (settings.global_batch, 3, settings.crop_px, settings.crop_px)
    images = torch.randn(shape, generator=generator) * 60
    labels = torch.randint(settings.num_classes, shape[:1], generator=generator)
    return images.to(device), labels.to(device)


def main() -> None:
    """Take one pass of what the arguments say and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=get_args(Kind))
    parser.add_argument("--settings", type=Settings.model_validate_json, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    if options.kind == "ours":
        keep_memory()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(take(options.kind, options.settings, device).model_dump_json())


if __name__ == "__main__":
    main()
