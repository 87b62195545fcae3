"""The norm across maps, forward and backward, against torch's own; with and without a compiler.

    .venv/bin/python -m benchmarks.local_response_norm

Passes take turns as in `benchmarks.run`; memory is kept, and a norm compiled, as in training. The
floors are for a CPU: 3 times torch's own without a compiler and 9 times with one, at the two shapes
of alexnet-2012 and batch 64.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from alexnet.model import LocalResponseNorm
from alexnet.train.compiled import COMPILE_OPTIONS
from benchmarks.machine import load_average, read_hardware, read_versions
from benchmarks.passes import Comparison, Pass, Results, Stamp, Subject, compare, joined, make_pass
from benchmarks.report import format_table
from infra.allocator import keep_memory

SHAPES: Final = ((96, 55, 55), (256, 27, 27))
FLOOR: Final = 3.0
FLOOR_COMPILED: Final = 9.0
TOLERANCE: Final = 1e-5
"""Of outputs against float64, relative."""

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is run, and how often."""

    batch: int = 64
    passes: int = 5
    steps: int = 3
    """Of a pass: each one forward and one backward."""
    compiled: bool = True
    channels_last: bool = False
    threads: int | None = None
    """None: as many as torch takes by itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON where told; return 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--no-compile", dest="compiled", action="store_false")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--json", type=Path, help="file to write")
    given = vars(parser.parse_args(arguments))
    path = given.pop("json")
    options = Options(**given)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    keep_memory()  # as a training's worker does, for all alike
    before = load_average()
    results = joined(measure(shape, options) for shape in SHAPES)
    facts = {
        "options": asdict(options),
        "threads": torch.get_num_threads(),
        "hardware": read_hardware().model_dump(),
        "versions": read_versions(),
        "load_average": (before, load_average()),
    }
    print(json.dumps(facts))
    print(format_table(("ratio", "median", "lowest", "highest", "floor"), rows(results)))
    if path is not None:
        path.write_text(json.dumps(facts | results.model_dump(mode="json"), indent=1))
    return int(any(one.holds is False for one in results.comparisons))


def measure(shape: tuple[int, int, int], options: Options) -> Results:
    """Take passes of torch's norm and of each other, in turn.

    Raises:
        RuntimeError: one of ours strays from float64 by more than TOLERANCE.
    """
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    maps = torch.randn(options.batch, *shape, generator=torch.Generator().manual_seed(0)) * 14
    maps = maps.contiguous(memory_format=layout)
    theirs, ours = nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0), LocalResponseNorm()
    candidates: dict[str, tuple[Norm, float | None]] = {"ours": (ours, FLOOR)}
    if options.compiled:
        candidates["ours, compiled"] = torch.compile(ours, options=COMPILE_OPTIONS), FLOOR_COMPILED
        candidates["torch's, compiled"] = torch.compile(theirs, options=COMPILE_OPTIONS), None
    size = "x".join(str(part) for part in shape)
    base = subject(f"torch's {size}", theirs, maps, options.steps)
    found = []
    for name, (norm, floor) in candidates.items():
        check(norm, maps[:2])
        candidate = subject(f"{name} {size}", norm, maps, options.steps)
        candidate.take()  # compiles for these shapes
        label = f"{name} / torch's, {size}"
        found.append(
            compare(
                label, base, candidate, quantity="whole", num_passes=options.passes, floor=floor
            )
        )
    return joined(found)


def subject(name: str, norm: Norm, maps: Tensor, steps: int) -> Subject:
    """Name a norm whose passes run it forward and backward on the same maps."""
    inputs = maps.clone().requires_grad_()
    gradient = torch.ones_like(maps)

    def take() -> Pass:
        started_s = time.perf_counter()
        for _ in range(steps):
            torch.autograd.grad(norm(inputs), inputs, gradient)
        end = Stamp(time.perf_counter(), steps * len(inputs))
        return make_pass(started_s, [[end]])

    return Subject(name=name, what="forward and backward of one image's maps", take=take)


def check(norm: Norm, maps: Tensor) -> None:
    """Refuse to time what is not exact: outputs and gradients against torch's in float64."""
    inputs, exact = maps.clone().requires_grad_(), maps.double().requires_grad_()
    outputs, expected = norm(inputs), nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)(exact)
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), exact)
    pairs = {"outputs": (outputs, expected), "gradients": (gradient, expected_gradient)}
    for what, (found, true) in pairs.items():
        # The gradient is a difference: held against its largest terms, which are near 2 ** -0.75.
        scale = true.abs() if what == "outputs" else true.abs().clamp(min=0.5)
        worst = ((found.double() - true).abs() / scale).max().item()
        if worst > TOLERANCE:
            raise RuntimeError(f"{what} differ from float64 by {worst:.1e}, more than {TOLERANCE}")


def rows(results: Results) -> list[list[str]]:
    """Lay out the ratios."""
    return [_row(one) for one in results.comparisons]


def _row(one: Comparison) -> list[str]:
    values = (one.median, min(one.ratios), max(one.ratios))
    floor = "" if one.floor is None else f"{one.floor:g} {'holds' if one.holds else 'MISSED'}"
    return [one.name, *(f"{value:.2f}" for value in values), floor]


if __name__ == "__main__":
    sys.exit(main())
