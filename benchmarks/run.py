"""The command: prepare a dataset, run each benchmark, print one table, write one JSON."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pydantic import ValidationError

from alexnet.train.placement import place_workers
from benchmarks import bare_decode, loader, prepare, training, training_step
from benchmarks.bench import Bench
from benchmarks.machine import load_average, read_commit, read_hardware, read_versions
from benchmarks.passes import Results, joined
from benchmarks.report import DatasetFacts, Report, format_report, with_ratios_across
from benchmarks.settings import QUICK, Settings
from infra.errors import ProjectError
from infra.ray_runtime import Resources
from infra.ray_session import ray_session
from infra.store import FolderStore
from preprocessing.dataset.manifest import Manifest, open_dataset
from preprocessing.settings import DRAWN

PREPARE: Final = "prepare"
BENCHMARKS: Final[dict[str, Callable[[Bench], Results]]] = {
    "bare_decode": bare_decode.measure,
    "loader": loader.measure,
    "training_step": training_step.measure,
    "training": training.measure,
}
"""After `prepare`, in this order, each with the machine to itself."""
OUTPUT: Final = Path("build/benchmarks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say; return the exit code, those of `alexnet`."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        settings = settings_of(options)
    except ValidationError as error:
        parser.error(str(error))
    names = options.only or [PREPARE, *BENCHMARKS]
    try:
        with TemporaryDirectory(prefix="alexnet-benchmarks-") as workspace:
            report = run(names, settings, options.archives, Path(workspace))
    except ProjectError as error:
        print(f"{error.problem}\n{error.remedy}", file=sys.stderr)
        return int(error.exit_code)
    table = format_report(report)
    print(table)
    path = write_report(report, table, options.output)
    print(f"written: {path}", file=sys.stderr)
    return 1 if report.failures else 0


def run(names: Sequence[str], settings: Settings, archives: str, workspace: Path) -> Report:
    """Start Ray and run the named benchmarks, in a workspace that is thrown away."""
    started_at, started_s, load_before = datetime.now(UTC), time.monotonic(), load_average()
    with ray_session() as resources:
        results, failures, manifest = measure(names, settings, archives, workspace, resources)
    results = with_ratios_across(results)
    return Report(
        started_at=started_at.isoformat(timespec="seconds"),
        elapsed_s=round(time.monotonic() - started_s, 1),
        hardware=read_hardware(),
        versions=read_versions(),
        commit=read_commit(),
        load_average=(load_before, load_average()),
        settings=settings,
        dataset=dataset_facts(manifest),
        series=results.series,
        comparisons=results.comparisons,
        failures=failures,
    )


def measure(
    names: Sequence[str], settings: Settings, archives: str, workspace: Path, resources: Resources
) -> tuple[Results, dict[str, str], Manifest]:
    """Prepare a dataset and run the named benchmarks on it, one after the other. Ray is up.

    Returns:
        What was measured, the deliberate errors by benchmark, and the dataset's manifest.
    """
    if archives == DRAWN:
        _say("drawing archives")
        archives = prepare.draw_archives(settings, workspace)
    _say(PREPARE)
    results = []
    if PREPARE in names:
        prepared, dataset = prepare.measure(settings, archives, workspace)
        results.append(prepared)
    else:
        _, dataset = prepare.prepare(settings, archives, workspace)
    manifest = open_dataset(FolderStore(dataset))
    bench = Bench(
        settings=settings,
        dataset=dataset,
        manifest=manifest,
        cpus=int(resources.cpus),
        placement=place_workers(resources, 1),
    )
    failures = {}
    for name, benchmark in BENCHMARKS.items():
        if name not in names:
            continue
        _say(name)
        try:
            results.append(benchmark(bench))
        except ProjectError as error:
            # An hour of measurements must not be lost with the last one.
            failures[name] = error.problem
    return joined(results), failures, manifest


def settings_of(options: argparse.Namespace) -> Settings:
    """Take the sizes of the command line; of a folder only its name, for the report is public."""
    settings = QUICK if options.quick else Settings()
    given = {name: getattr(options, name) for name in ("images", "passes", "seconds")}
    changed = {name: value for name, value in given.items() if value is not None}
    changed["archives"] = Path(options.archives).name
    return Settings.model_validate(settings.model_dump() | changed)


def dataset_facts(manifest: Manifest) -> DatasetFacts:
    """Describe a dataset without saying where it lies."""
    train = manifest.train
    return DatasetFacts(
        fingerprint=manifest.fingerprint,
        train_count=train.count,
        val_count=manifest.val.count,
        bytes_per_image=sum(shard.size_bytes for shard in train.shards) // train.count,
    )


def write_report(report: Report, table: str, folder: Path) -> Path:
    """Write the document and the table beside it, named by the time; return the document's path."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = datetime.fromisoformat(report.started_at).strftime("%Y%m%d-%H%M%S")
    path = folder / f"{stem}.json"
    path.write_text(report.model_dump_json(indent=1) + "\n")
    path.with_suffix(".md").write_text(table + "\n")
    return path


def _say(stage: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S}  {stage}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument(
        "--archives",
        default=DRAWN,
        metavar="DIR",
        help="directory or URI of the three official archives; else images are drawn",
    )
    parser.add_argument("--images", type=int, help="of a pass of the loader and of the bare loop")
    parser.add_argument("--passes", type=int, help="of each candidate; its base has one more")
    parser.add_argument("--seconds", type=float, help="that a pass of training lasts")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument(
        "--only", nargs="+", choices=[PREPARE, *BENCHMARKS], metavar="NAME", help="some of them"
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="DIR", help="of JSON and table"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
