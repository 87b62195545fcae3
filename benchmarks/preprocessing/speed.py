"""How fast a dataset is made, beside plain loops and others' converters on the same images."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.machine import load_average, read_commit, read_hardware, read_versions
from benchmarks.preprocessing.breakdown import measure_steps
from benchmarks.preprocessing.loops import LoopName, LoopWork, take_loop
from benchmarks.preprocessing.measured import Measured
from benchmarks.preprocessing.ours import Commands, take_build, take_command
from benchmarks.preprocessing.rivals import CONVERTERS, take_rival
from benchmarks.preprocessing.sources import (
    MAX_REJECTS,
    Source,
    repeated_archives,
    repeated_photographs,
)
from benchmarks.preprocessing.speed_report import (
    OURS,
    Candidate,
    SourceReport,
    SpeedReport,
    format_speed,
)
from infra.ray_session import ray_session
from preprocessing.building.estimate import estimate_build
from preprocessing.settings import PrepareSettings

OUTPUT: Final = Path("build/benchmarks")
BASE: Final = "bare loop, 1 process"
STEPS_OF: Final = 600
"""Images that the breakdown is of."""
LOOPS_OF: Final = 6_000
"""Images that a loop goes through at most: its rate is the same from the first to the last."""

Take = Callable[[], Measured]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say."""
    # As Ray has it in tasks of one CPU: the loops must not compute with more.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = _parser().parse_args(arguments)
    small, photographs = (
        PrepareSettings(rows_per_shard=rows, max_rejects=MAX_REJECTS)
        for rows in (options.rows_per_shard, options.photographs_per_shard)
    )
    with TemporaryDirectory(prefix="alexnet-speed-") as name:
        folder = Path(name)
        sources = [repeated_archives(options.archives, options.images, folder / "archives", small)]
        if options.photographs:
            sources.append(
                repeated_photographs(
                    options.photographs, options.members, folder / "photographs", photographs
                )
            )
        report = run(options, sources, folder)
    table = format_speed(report)
    print(table)
    print(f"written: {write_speed(report, table, options.output)}", file=sys.stderr)
    return 0


def run(options: argparse.Namespace, sources: Sequence[Source], folder: Path) -> SpeedReport:
    """Measure each source's images, with Ray up."""
    started_at, load_before = datetime.now(UTC), load_average()
    versions = read_versions()
    commands = [take_command(source, max(options.workers), folder) for source in sources]
    with ray_session():
        reports = []
        for source, command in zip(sources, commands, strict=True):
            found, of_others = measure(options, source, folder, command)
            versions |= of_others
            reports.append(found)
    return SpeedReport(
        started_at=started_at.isoformat(timespec="seconds"),
        hardware=read_hardware(),
        versions=versions,
        commit=read_commit(),
        load_average=(load_before, load_average()),
        has_others=options.python is not None,
        sources=tuple(reports),
    )


def measure(
    options: argparse.Namespace, source: Source, folder: Path, command: Commands
) -> tuple[SourceReport, dict[str, str]]:
    """Take turns: in each round every candidate once, with the base before, after and between."""
    workspace = folder / f"work-{source.name}"
    members = source.members(workspace)
    index = source.index(workspace)
    place = Path(index.store.uri)
    _say(f"{source.name}: estimate")
    estimate = estimate_build(index, source.options)
    versions: dict[str, str] = {}

    def loop(name: LoopName, processes: int) -> Take:
        work = LoopWork(
            loop=name,
            folder=place,
            members=members[:LOOPS_OF],
            source=source,
            workspace=workspace,
        )
        return lambda: take_loop(work, processes)

    def rival(converter: str, workers: int) -> Take:
        def take() -> Measured:
            measured, found = take_rival(options.python, converter, source, workers, folder)
            versions.update(found)
            return measured

        return take

    base = loop("bare", 1)
    takes: dict[str, Take] = {"bare loop, 2 processes": loop("bare", 2)}
    takes["render_shard in 1 process"] = loop("whole", 1)
    takes["pillow loop, 1 process"] = loop("pillow", 1)
    for workers in options.workers:
        takes[f"{OURS}{workers} workers"] = lambda workers=workers: take_build(
            source, workers, folder
        )
    if options.python is not None:
        workers = max(options.workers)
        takes |= {
            f"{name}, {1 if name.endswith('copy') else workers} workers": rival(
                name, 1 if name.endswith("copy") else workers
            )
            for name in CONVERTERS
        }
    _say(f"{source.name}: warming up")
    base()
    bases: dict[str, list[Measured]] = {name: [] for name in takes}
    passes: dict[str, list[Measured]] = {name: [] for name in takes}
    for number in range(options.passes):
        before = base()
        for name, take in takes.items():
            _say(f"{source.name}: pass {number + 1}: {name}")
            passes[name].append(take())
            after = base()
            bases[name] += [before, after]
            before = after
    some = members[:: max(1, len(members) // STEPS_OF)]
    # In a process of its own: in this one, NumPy was loaded before OMP_NUM_THREADS was set.
    with get_context("spawn").Pool(1) as pool:
        steps = pool.apply(measure_steps, (source, some, place))
    report = SourceReport(
        name=source.name,
        images=len(members),
        rows_per_shard=source.options.rows_per_shard,
        bytes_per_image=sum(member.size_bytes for member in members) // len(members),
        base=_base(bases),
        candidates=tuple(candidate_of(name, passes[name], bases[name]) for name in takes),
        steps_us=steps,
        command=command,
        estimated_cpu_s=estimate.core_hours * 3600,
    )
    shutil.rmtree(workspace)
    return report, versions


def _base(bases: dict[str, list[Measured]]) -> Candidate:
    taken = [one for some in bases.values() for one in some]
    return Candidate(name=BASE, passes=tuple(taken), by_clock=(), by_cpu=())


def candidate_of(name: str, passes: list[Measured], bases: list[Measured]) -> Candidate:
    """Divide each pass by the mean of the base just before and just after it."""
    around = [(bases[i], bases[i + 1]) for i in range(0, len(bases), 2)]
    return Candidate(
        name=name,
        passes=tuple(passes),
        by_clock=tuple(
            one.per_core / ((before.per_core + after.per_core) / 2)
            for one, (before, after) in zip(passes, around, strict=True)
        ),
        by_cpu=tuple(
            one.per_cpu_s / ((before.per_cpu_s + after.per_cpu_s) / 2)
            for one, (before, after) in zip(passes, around, strict=True)
        ),
    )


def write_speed(report: SpeedReport, table: str, folder: Path) -> Path:
    """Write the document and the table beside it, named by the time; return the document's path."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = datetime.fromisoformat(report.started_at).strftime("prepare-%Y%m%d-%H%M%S")
    path = folder / f"{stem}.json"
    path.write_text(report.model_dump_json(indent=1) + "\n")
    path.with_suffix(".md").write_text(table + "\n")
    return path


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S}  {what}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.preprocessing.speed", description=__doc__
    )
    parser.add_argument(
        "--archives",
        required=True,
        metavar="DIR",
        help="of the three official archives, of small images",
    )
    parser.add_argument(
        "--images", type=int, default=40_960, help="of the archives, by repeating them: 20 shards"
    )
    parser.add_argument("--rows-per-shard", type=int, default=2048, help="of small images")
    parser.add_argument(
        "--photographs",
        type=Path,
        metavar="DIR",
        help="JPEGs of full size, of which an archive is made by repeating them",
    )
    parser.add_argument("--members", type=int, default=2000, help="of that archive")
    parser.add_argument("--photographs-per-shard", type=int, default=256)
    parser.add_argument("--passes", type=int, default=3, help="of each candidate")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--python",
        type=Path,
        metavar="PATH",
        help="a Python that has mosaicml-streaming and litdata; without it they are left out",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
