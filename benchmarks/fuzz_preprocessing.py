"""The command: thousands of broken inputs, each read by a child process that may die of it.

    python -m benchmarks.fuzz_preprocessing --cases 10000
    python -m benchmarks.fuzz_preprocessing --first 4711 --cases 1      # that one again

A case ends well when what it read was fine, or ended with a deliberate error. All else is a bug:
any other exception, a crash, a hang, more memory than BOUND_BYTES, a process that was started, a
file that was written outside of the case's folder.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, Final

from benchmarks.fuzz_subjects import SUBJECTS
from infra.commit import Frozen

BOUND_BYTES: Final = 2 << 30
"""Memory of a process that reads one broken input. An image of 90 megapixels takes most of it."""
LIMIT_S: Final = 60.0
"""A case takes milliseconds; an image of 90 megapixels some seconds, or ten on a busy machine."""
CHILD: Final = (sys.executable, "-X", "faulthandler", "-m", "benchmarks.fuzz_child")
_SHOWN: Final = 20
_ERRORS_TOLD: Final = 4000


class Failure(Frozen):
    """A case that did not end well; `--first number --cases 1` runs it again."""

    number: int
    kind: str
    outcome: str
    problem: str


class KindReport(Frozen):
    """How the cases of one kind of input ended."""

    kind: str
    cases: int
    fine: int
    outcomes: dict[str, int]
    """Of all others, by the class of their errors."""
    slowest_s: float
    peak_bytes: int


class FuzzReport(Frozen):
    """How all cases ended."""

    seed: int
    first: int
    cases: int
    kinds: tuple[KindReport, ...]
    failures: tuple[Failure, ...]


def fuzz(
    *,
    seed: int,
    first: int,
    cases: int,
    kinds: Sequence[str],
    limit_s: float = LIMIT_S,
    child: Sequence[str] = CHILD,
) -> FuzzReport:
    """Run cases `first` to `first + cases`; kinds take turns.

    Args:
        limit_s: a case that takes longer is a hang.
        child: the command that runs them, less the words that `fuzz_child.main` takes.
    """
    results: list[dict[str, Any]] = []
    while len(results) < cases:
        with TemporaryDirectory(prefix="fuzz-") as folder:
            words = (folder, seed, first + len(results), first + cases, limit_s, *kinds)
            results += _run_child([*child, *map(str, words)], limit_s)
    failures = [
        Failure(**{name: result[name] for name in Failure.model_fields})
        for result in results
        if _is_failure(result)
    ]
    return FuzzReport(
        seed=seed,
        first=first,
        cases=cases,
        kinds=tuple(_summary(kind, results) for kind in kinds),
        failures=tuple(failures),
    )


def _run_child(command: Sequence[str], limit_s: float) -> Iterator[dict[str, Any]]:
    """Yield results until all cases are done, or the child has died of one."""
    began: dict[str, Any] | None = None
    with (
        TemporaryFile("w+") as errors,  # a pipe would fill
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
    ):
        for line in child.stdout or ():
            message = json.loads(line)
            if began is None:
                began = message
            else:
                yield began | message
                began = None
        child.wait()
        errors.seek(0)
        told = errors.read()[-_ERRORS_TOLD:]
    if began is not None:
        is_hang = child.returncode == -signal.SIGALRM
        outcome = "hang" if is_hang else f"crash: {child.returncode}"
        yield began | {
            "outcome": outcome,
            "problem": told,
            "elapsed_s": limit_s if is_hang else 0.0,
            "peak_bytes": 0,
        }
    elif child.returncode:
        raise RuntimeError(f"no case could be run: {told}")


def _is_failure(result: dict[str, Any]) -> bool:
    outcome = result["outcome"]
    return (
        outcome == "hang"
        or outcome.startswith(("bug:", "crash:"))
        or result["peak_bytes"] > BOUND_BYTES
    )


def _summary(kind: str, results: Sequence[dict[str, Any]]) -> KindReport:
    ours = [result for result in results if result["kind"] == kind]
    outcomes = Counter(result["outcome"] for result in ours)
    return KindReport(
        kind=kind,
        cases=len(ours),
        fine=outcomes.pop("fine", 0),
        outcomes=dict(sorted(outcomes.items())),
        slowest_s=round(max((result["elapsed_s"] for result in ours), default=0.0), 3),
        peak_bytes=max((result["peak_bytes"] for result in ours), default=0),
    )


def format_report(report: FuzzReport) -> str:
    """Write a table for people."""
    lines = [
        f"{report.cases:,} cases from {report.first:,}, seed {report.seed}:"
        f" {len(report.failures)} failures",
        "",
        "| input | cases | fine | errors | slowest | peak |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for kind in report.kinds:
        errors = ", ".join(f"{name} {count:,}" for name, count in kind.outcomes.items())
        lines.append(
            f"| {kind.kind} | {kind.cases:,} | {kind.fine:,} | {errors}"
            f" | {kind.slowest_s:.2f} s | {kind.peak_bytes / (1 << 20):,.0f} MiB |"
        )
    for failure in report.failures[:_SHOWN]:
        lines += ["", f"{failure.number} {failure.kind}: {failure.outcome}", failure.problem]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say; 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="how many (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another gives others (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, help="some kinds of input")
    parser.add_argument("--json", type=Path, help="write the report there too")
    options = parser.parse_args(arguments)
    kinds = options.only or list(SUBJECTS)
    report = fuzz(seed=options.seed, first=options.first, cases=options.cases, kinds=kinds)
    print(format_report(report))
    if options.json:
        options.json.write_text(report.model_dump_json(indent=1))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
