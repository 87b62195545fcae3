"""The norm across maps, forward and backward, against torch's own; with and without a compiler.

    .venv/bin/python -m benchmarks.local_response_norm
    .venv/bin/python -m benchmarks.local_response_norm --device cuda     # beside copies of the maps

Passes take turns as in `benchmarks.run`; memory is kept, and a norm compiled, as in training. The
floors are for a CPU: 3 times torch's own without a compiler and 9 times with one, at the two shapes
of alexnet-2012 and batch 64. On a GPU every norm, torch's too, stands beside copies of its maps
(`benchmarks.norm_copies`), of which our compiled one may take 1.3 times the time each way. There it
is compiled for these shapes, where training compiles it for any batch.
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
from benchmarks.norm_copies import CEILING, HEAD, Way, measure_ways
from benchmarks.norm_copies import rows as rows_of_ways
from benchmarks.passes import Comparison, Pass, Results, Stamp, Subject, compare, joined, make_pass
from benchmarks.report import format_table
from infra.allocator import keep_memory

SHAPES: Final = ((96, 55, 55), (256, 27, 27))
FLOOR: Final = 3.0
FLOOR_COMPILED: Final = 9.0
BATCH: Final = 64
GPU_BATCH: Final = 512
"""0.4 to 0.6 GB in float32: a pass takes longer than its launch, and caches hold little of it."""
GPU_ROUNDS: Final = 50
TOLERANCE: Final = 1e-5
"""Of outputs against float64, relative."""

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is run, and how often."""

    batch: int = BATCH
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
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, help=f"({BATCH}; on a GPU {GPU_BATCH})")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--no-compile", dest="compiled", action="store_false")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--json", type=Path, help="file to write")
    given = vars(parser.parse_args(arguments))
    path, is_gpu = given.pop("json"), given.pop("device") == "cuda"
    given["batch"] = given["batch"] or (GPU_BATCH if is_gpu else BATCH)
    options = Options(**given)
    if is_gpu and not torch.cuda.is_available():
        parser.error("torch finds no GPU here")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    keep_memory()  # as a training's worker does, for all alike
    before = load_average()
    if is_gpu:
        cuda = torch.device("cuda")
        ways = [way for shape in SHAPES for way in measure_beside_copies(shape, options, cuda)]
        facts = _facts(options, before)
        print(json.dumps(facts))
        print(format_table(HEAD, rows_of_ways(ways)))
        _write(path, facts | {"ways": [way.model_dump(mode="json") for way in ways]})
        return int(any(way.holds is False for way in ways))
    results = joined(measure(shape, options) for shape in SHAPES)
    facts = _facts(options, before)
    print(json.dumps(facts))
    print(format_table(("ratio", "median", "lowest", "highest", "floor"), rows(results)))
    _write(path, facts | results.model_dump(mode="json"))
    return int(any(one.holds is False for one in results.comparisons))


def _facts(options: Options, load_before: float) -> dict[str, object]:
    return {
        "options": asdict(options),
        "threads": torch.get_num_threads(),
        "hardware": read_hardware().model_dump(),
        "versions": read_versions(),
        "load_average": (load_before, load_average()),
    }


def _write(path: Path | None, found: dict[str, object]) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1))


def measure(shape: tuple[int, int, int], options: Options) -> Results:
    """Take passes of torch's norm and of each other, in turn.

    Raises:
        RuntimeError: one of ours strays from float64 by more than TOLERANCE.
    """
    maps = draw(shape, options, torch.device("cpu"))
    theirs, ours = nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0), LocalResponseNorm()
    candidates: dict[str, tuple[Norm, float | None]] = {"ours": (ours, FLOOR)}
    if options.compiled:
        candidates["ours, compiled"] = torch.compile(ours, options=COMPILE_OPTIONS), FLOOR_COMPILED
        candidates["torch's, compiled"] = torch.compile(theirs, options=COMPILE_OPTIONS), None
    size = _size_text(shape)
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


def measure_beside_copies(
    shape: tuple[int, int, int], options: Options, device: torch.device, rounds: int = GPU_ROUNDS
) -> tuple[Way, ...]:
    """Time each norm and copies of its maps, forward and backward.

    Raises:
        RuntimeError: one of ours strays from float64 by more than TOLERANCE.
    """
    maps = draw(shape, options, device)
    theirs, ours = nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0), LocalResponseNorm()
    norms: dict[str, Norm] = {"ours": ours, "torch's": theirs}
    if options.compiled:
        for name, norm in list(norms.items()):
            # For these shapes: one graph for any would say less of the kernels themselves.
            whole = torch.compile(norm, options=COMPILE_OPTIONS, dynamic=False)
            norms[f"{name}, compiled"] = whole
    found: list[Way] = []
    for name, norm in norms.items():
        check(norm, maps[:2])
        ceiling = CEILING if name == "ours, compiled" else None
        found += measure_ways(f"{name} {_size_text(shape)}", norm, maps, rounds, ceiling)
    return tuple(found)


def draw(shape: tuple[int, int, int], options: Options, device: torch.device) -> Tensor:
    """Draw maps, always the same on a device."""
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    generator = torch.Generator(device).manual_seed(0)
    maps = torch.randn(options.batch, *shape, generator=generator, device=device) * 14
    return maps.contiguous(memory_format=layout)


def _size_text(shape: tuple[int, int, int]) -> str:
    return "x".join(str(part) for part in shape)


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
