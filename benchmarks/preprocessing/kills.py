"""Kill one build again and again, and compare the dataset with that of a quiet build."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.machine import (
    Commit,
    Hardware,
    load_average,
    read_commit,
    read_hardware,
    read_versions,
)
from benchmarks.preprocessing.builds import Build, product_digests
from benchmarks.preprocessing.killer import Outcome, Quiet, build_quietly, build_under_kills
from benchmarks.report import format_table
from infra.commit import Frozen

OUTPUT: Final = Path("build/benchmarks")
_HEAD: Final = (
    "workers", "of the command", "of a worker", "too late", "starts", "seconds", "files",
    "differing", "rewritten",
)  # fmt: skip


class KillReport(Frozen):
    """All that was found."""

    started_at: str
    """ISO 8601, UTC."""
    archives: str
    store: str
    """`directory` or `s3`."""
    seed: int
    rows_per_shard: int
    hardware: Hardware
    versions: dict[str, str]
    commit: Commit | None
    load_average: tuple[float, float]
    """Of a minute, before and after."""
    quiet: Quiet
    outcomes: tuple[Outcome, ...]

    @property
    def holds(self) -> bool:
        """Whether every build ended with the quiet one's bytes, no finished shard written again."""
        return not any(outcome.differing or outcome.rewritten for outcome in self.outcomes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say; 1 when a file differs, or a finished shard was written again."""
    options = _parser().parse_args(arguments)
    with TemporaryDirectory(prefix="alexnet-kills-") as folder:
        report = run(options, options.store or folder)
    table = format_kills(report)
    print(table)
    path = write_kills(report, table, options.output)
    print(f"written: {path}", file=sys.stderr)
    return 0 if report.holds else 1


def run(options: argparse.Namespace, store: str) -> KillReport:
    """Build quietly once, then under kills at each number of workers."""
    started_at, load_before = datetime.now(UTC), load_average()
    # By time: a store that is kept from run to run must not hold the dataset already.
    place = f"{store.rstrip('/')}/kills-{started_at:%Y%m%d-%H%M%S}"

    def build_at(name: str, workers: int) -> Build:
        return Build(
            workspace=f"{place}/{name}",
            settings=(
                f"dataset.archives={options.archives}",
                f"prepare.rows_per_shard={options.rows_per_shard}",
                f"prepare.max_rejects={options.max_rejects}",
            ),
            workers=workers,
        )

    undisturbed = build_at("quiet", 2)
    _say("an undisturbed build")
    quiet = build_quietly(undisturbed)
    dataset = undisturbed.dataset()
    if dataset is None:
        raise RuntimeError("the undisturbed build left no dataset")
    expected = product_digests(dataset)
    outcomes = []
    for workers in options.workers:
        _say(f"{options.kills} kills, {workers} workers")
        build = build_at(f"killed-{workers}", workers)
        outcomes.append(
            build_under_kills(build, quiet, expected, kills=options.kills, seed=options.seed)
        )
    return KillReport(
        started_at=started_at.isoformat(timespec="seconds"),
        archives=Path(options.archives).name,
        store="s3" if store.startswith("s3://") else "directory",
        seed=options.seed,
        rows_per_shard=options.rows_per_shard,
        hardware=read_hardware(),
        versions=read_versions(),
        commit=read_commit(),
        load_average=(load_before, load_average()),
        quiet=quiet,
        outcomes=tuple(outcomes),
    )


def format_kills(report: KillReport) -> str:
    """Return the report as Markdown. Pure."""
    quiet = report.quiet
    rows = [
        [
            str(value)
            for value in (
                one.workers, one.driver_kills, one.worker_kills, one.late_kills, one.starts,
                f"{one.elapsed_s:.0f}", one.files, len(one.differing), len(one.rewritten),
            )
        ]
        for one in report.outcomes
    ]  # fmt: skip
    facts = (
        f"{report.started_at}, {report.archives} in {quiet.shards} shards, in a place of kind"
        f" {report.store}, seed {report.seed}, load {report.load_average[0]} before and"
        f" {report.load_average[1]} after; undisturbed: {quiet.elapsed_s:.0f} s at"
        f" {quiet.workers} workers"
    )
    return "\n\n".join([facts, format_table(_HEAD, rows), _verdict(report)])


def _verdict(report: KillReport) -> str:
    if any(one.differing for one in report.outcomes):
        return "FILES DIFFER"
    if not report.holds:
        return "FINISHED SHARDS WERE WRITTEN AGAIN; all files are those of the quiet build"
    return "all files are those of the quiet build, and no finished shard was written again"


def write_kills(report: KillReport, table: str, folder: Path) -> Path:
    """Write the document and the table beside it, named by the time; return the document's path."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = datetime.fromisoformat(report.started_at).strftime("kills-%Y%m%d-%H%M%S")
    path = folder / f"{stem}.json"
    path.write_text(report.model_dump_json(indent=1) + "\n")
    path.with_suffix(".md").write_text(table + "\n")
    return path


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S}  {what}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.preprocessing.kills", description=__doc__
    )
    parser.add_argument(
        "--archives", required=True, metavar="DIR", help="of the three official archives"
    )
    parser.add_argument("--kills", type=int, default=20, help="of each build")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument(
        "--store", metavar="DIR_OR_URI", help="where to build, in a new folder; else in $TMPDIR"
    )
    parser.add_argument("--rows-per-shard", type=int, default=320)
    parser.add_argument("--max-rejects", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
