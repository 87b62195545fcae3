"""Training steps of our networks beside torchvision's AlexNet in torch's own modules, on a device.

Made for a GPU that is there for a quarter of an hour: everything in one process, rows on standard
output as they come, and a document that is written anew after each of them. What matters most
comes first: every network without a compiler, then compiled, in bf16, tf32 and fp32. First of all,
without dropout, our step and torch's own must give the same losses to the bit.

    python -m benchmarks.gpu_steps --minutes 10     # the family; no row begins after 10 minutes
    python -m benchmarks.gpu_steps --networks all   # every registered network
    python -m benchmarks.gpu_steps --quick          # tiny sizes, on a CPU: does everything run?

Beside each rate stand its ratio to torchvision's, equally compiled or not, and its share of the
floor (`benchmarks.step_floor`), by the rates that the device itself reaches.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, product
from pathlib import Path
from statistics import median
from typing import Final, get_args

import torch
from pydantic import Field

from alexnet.model import list_models
from alexnet.settings import Precision
from alexnet.train.gpu_peaks import peak_flop_per_s
from benchmarks.device_rates import DeviceRates, measure_rates
from benchmarks.gpu_programs import (
    BASE,
    OURS,
    Case,
    Size,
    Step,
    build_program,
    cost_of,
    losses_agree,
    size_of,
)
from benchmarks.machine import Commit, Hardware, read_commit, read_hardware, read_versions
from benchmarks.report import format_table
from benchmarks.step_floor import Cost, step_floor_s
from infra.commit import Frozen
from infra.errors import ProjectError

OTHERS: Final = ("alexnet-2012", "alexnet-one-tower", "alexnet-bn", "alexnet-paper")
"""Of ImageNet's size, one of each kind; the release's ablations differ little from alexnet-2012."""
FLOOR: Final = 0.95
"""Of the plain network's images a second, for `alexnet-torchvision` without a compiler."""
WINDOW: Final = 4
"""Steps between two looks at the clock, which wait for the device."""
OUTPUT: Final = Path("build/benchmarks")


class Row(Frozen):
    """What came of a case."""

    network: str
    precision: Precision
    batch: int
    is_compiled: bool
    image_px: int
    images_per_s: float
    """Median over windows of a few steps."""
    slowest: float
    fastest: float
    of_torchvision: float | None
    """Of the images a second of torchvision's, equally compiled or not; none: other images."""
    floor_images_per_s: float
    """By `step_floor_s`."""

    @property
    def of_floor(self) -> float:
        """The floor's time over the step's: 1 at the floor."""
        return self.images_per_s / self.floor_images_per_s


class Record(Frozen):
    """One run, or so much of it as there is by now."""

    schema_version: int = 1
    started_at: str
    """ISO 8601, UTC."""
    elapsed_s: float
    hardware: Hardware
    versions: dict[str, str]
    commit: Commit | None
    is_quick: bool
    seconds: float
    """Of each measurement."""
    rates: DeviceRates
    published_flop_per_s: dict[Precision, float | None]
    differing: tuple[int, ...]
    """Batches on which our losses are not those of torch's own modules."""
    planned: int
    """Rows of a run that is not cut short."""
    rows: tuple[Row, ...] = ()
    failures: dict[str, str] = Field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, measure, print and write; 1 where losses differ, a case failed or FLOOR is missed."""
    started_at, started_s = datetime.now(UTC), time.monotonic()
    options = _parser().parse_args(arguments)
    device = torch.device(options.device)
    batches = options.batches or ([4] if options.quick else [128, 512, 1024])
    seconds = 0.01 if options.quick else options.seconds
    networks = options.networks
    if "all" in networks:  # the same ones first
        networks = list(dict.fromkeys((OURS, *OTHERS, *list_models())))
    modes = (False, True) if options.compiled else (False,)
    cases = plan_cases(networks, options.precisions, batches, modes)
    record = Record(
        started_at=started_at.isoformat(timespec="seconds"),
        elapsed_s=0.0,
        hardware=read_hardware(),
        versions=read_versions(),
        commit=read_commit(),
        is_quick=options.quick,
        seconds=seconds,
        rates=measure_rates(device, options.precisions),
        published_flop_per_s=_published(device, options.precisions),
        differing=tuple(
            batch
            for batch in batches
            if not losses_agree(size_of(OURS, quick=options.quick), batch, device)
        ),
        planned=len(cases),
    )
    print(f"{facts_text(record)}\n\n{_line(HEAD)}\n{_line(['---'] * len(HEAD))}", flush=True)
    sizes = {one: size_of(one, quick=options.quick) for one in (BASE, *networks)}
    until_s = started_s + 60 * options.minutes
    path = options.output / f"gpu-steps-{started_at:%Y%m%d-%H%M%S}.json"
    write(record, path)
    for found in measure(cases, sizes, record.rates, device, seconds, until_s):
        changed: dict[str, object] = {"elapsed_s": round(time.monotonic() - started_s, 1)}
        if isinstance(found, Row):
            print(_line(_cells(found)), flush=True)
            changed["rows"] = (*record.rows, found)
        else:
            print(f"{found.name}: {found.problem}", file=sys.stderr, flush=True)
            changed["failures"] = record.failures | {found.name: found.problem}
        record = record.model_copy(update=changed)
        write(record, path)  # after each: a machine that is taken away must not take them with it
    print(f"written: {path}", file=sys.stderr)
    return _verdict(record)


def _verdict(record: Record) -> int:
    for batch in record.differing:
        print(f"batch {batch}: losses differ from those of torch's own modules", file=sys.stderr)
    if len(record.rows) < record.planned:
        print(f"{len(record.rows)} of {record.planned} were measured", file=sys.stderr)
    ours = [row for row in record.rows if row.network == OURS and not row.is_compiled]
    lowest = min((row.of_torchvision for row in ours if row.of_torchvision), default=1.0)
    is_slow = lowest < FLOOR and not record.is_quick
    if is_slow:
        print(f"{OURS} reached {lowest:.2f}, below {FLOOR}", file=sys.stderr)
    return int(bool(record.differing or record.failures) or is_slow)


def plan_cases(
    networks: Sequence[str],
    precisions: Sequence[Precision],
    batches: Sequence[int],
    modes: Sequence[bool],
) -> list[Case]:
    """Order what is measured: by mode, then precision; the plain network before those it is for."""
    every = product(modes, precisions, (BASE, *networks), batches)
    return [Case(network, precision, batch, mode) for mode, precision, network, batch in every]


@dataclass(frozen=True, slots=True)
class Failure:
    """A network that could not be measured, from some batch on, and why."""

    name: str
    problem: str


def measure(
    cases: Sequence[Case],
    sizes: dict[str, Size],
    rates: DeviceRates,
    device: torch.device,
    seconds: float,
    until_s: float,
) -> Iterator[Row | Failure]:
    """Give a row for each case, in their order, as long as `time.monotonic` is below `until_s`."""
    plain: dict[tuple[object, ...], float] = {}
    for (network, precision, mode), group in groupby(cases, key=_program_key):
        size = sizes[network]
        try:
            cost = cost_of(network, size)
            program = None  # lets go of the one before, too
            for case in group:
                if time.monotonic() >= until_s:
                    return
                program = program or build_program(case, size, device)
                found = _images_per_s(program(case.batch), case.batch, device, seconds)
                key = (precision, case.batch, mode)
                if network == BASE:
                    plain[key] = median(found)
                base = None if network.startswith("cifar-") else plain.get(key)
                yield _row(case, size, found, base, cost, rates)
        except (ProjectError, RuntimeError) as error:
            # One that cannot be compiled, or has no room, must not cost the others their turn.
            mode_name = "compiled" if mode else "not compiled"
            problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
            yield Failure(f"{network}, {precision}, {mode_name}", problem)


def _program_key(case: Case) -> tuple[str, Precision, bool]:
    return case.network, case.precision, case.is_compiled


def _row(
    case: Case,
    size: Size,
    images_per_s: Sequence[float],
    base: float | None,
    cost: Cost,
    rates: DeviceRates,
) -> Row:
    rate = median(images_per_s)
    return Row(
        network=case.network,
        precision=case.precision,
        batch=case.batch,
        is_compiled=case.is_compiled,
        image_px=size.image_px,
        images_per_s=rate,
        slowest=min(images_per_s),
        fastest=max(images_per_s),
        of_torchvision=None if base is None else rate / base,
        floor_images_per_s=case.batch / step_floor_s(cost, case.batch, case.precision, rates),
    )


def _images_per_s(step: Step, batch: int, device: torch.device, seconds: float) -> list[float]:
    """Give the rate of every window of a few steps."""
    for _ in range(3):
        step()
    rates: list[float] = []
    begun_s = last_s = _now(device)
    while last_s - begun_s < seconds:
        for _ in range(WINDOW):
            step()
        now_s = _now(device)
        rates.append(WINDOW * batch / (now_s - last_s))
        last_s = now_s
    if not torch.isfinite(step()):
        # A device multiplies the same number over and over quicker than it does others.
        raise RuntimeError("the loss is no longer finite: the rate would be of another task")
    return rates


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _published(
    device: torch.device, precisions: Sequence[Precision]
) -> dict[Precision, float | None]:
    if device.type != "cuda":
        return {}
    name = torch.cuda.get_device_name(device)
    return {precision: peak_flop_per_s(name, precision) for precision in precisions}


HEAD: Final = (
    "network", "precision", "batch", "compiled", "images/s", "lowest", "highest",
    "of torchvision's", "of the floor",
)  # fmt: skip


def _cells(row: Row) -> list[str]:
    rates = (row.images_per_s, row.slowest, row.fastest)
    return [
        row.network,
        row.precision,
        str(row.batch),
        "yes" if row.is_compiled else "",
        *(f"{rate:,.0f}" for rate in rates),
        "" if row.of_torchvision is None else f"{row.of_torchvision:.2f}",
        f"{row.of_floor:.2f}",
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def facts_text(record: Record) -> str:
    """Say what was measured on what, and what the device reaches at its best."""
    commit, rates = record.commit, record.rates
    state = "unknown" if commit is None else commit.id[:12] + ", modified" * commit.modified
    machine = ", ".join(record.hardware.gpus) or record.hardware.cpu
    lines = [
        f"{record.started_at}, commit {state}",
        f"{machine}, torch {record.versions['torch']}",
        f"a copy moves {rates.bytes_per_s / 1e12:.2f} TB/s, a product of matrices reaches "
        + ", ".join(
            f"{flop_per_s / 1e12:.1f} TFLOP/s in {precision}"
            + _of_published(record.published_flop_per_s.get(precision))
            for precision, flop_per_s in rates.flop_per_s.items()
        ),
    ]
    if record.is_quick:
        lines.append("tiny sizes, to see that everything runs: the figures mean nothing")
    return "\n".join(lines)


def _of_published(flop_per_s: float | None) -> str:
    return "" if flop_per_s is None else f" (published {flop_per_s / 1e12:.1f})"


def write(record: Record, path: Path) -> None:
    """Write the document and the table beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json(indent=1) + "\n")
    parts = [
        facts_text(record),
        format_table(HEAD, [_cells(row) for row in record.rows]),
        f"{len(record.rows)} of {record.planned} rows in {record.elapsed_s / 60:.1f} minutes",
        *(f"**{name} failed**: {problem}" for name, problem in record.failures.items()),
    ]
    path.with_suffix(".md").write_text("\n\n".join(parts) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_steps", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--networks",
        nargs="*",
        choices=[*list_models(), "all"],
        default=[OURS, *OTHERS],
        metavar="NAME",
        help="registered ones, or all (%(default)s)",
    )
    parser.add_argument("--batches", nargs="*", type=int, metavar="N", help="(128 512 1024)")
    parser.add_argument(
        "--precisions",
        nargs="*",
        choices=get_args(Precision),
        default=["bf16", "tf32", "fp32"],
        metavar="WORD",
        help="of train.precision (%(default)s)",
    )
    parser.add_argument("--no-compile", dest="compiled", action="store_false")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="after which none begins"
    )
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cuda" if torch.cuda.is_available() else "cpu",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="DIR", help="of JSON and table"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
