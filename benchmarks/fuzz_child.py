"""Runs cases in a process of its own, which may die of them: a JSON line before and after each.

It may have so much memory and time a case, and is watched: whatever a case runs, or changes outside
of its folder, is reported.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, Final

from benchmarks.fuzz_subjects import SUBJECTS
from infra.errors import ProjectError

ROOM_BYTES: Final = 4 << 30
"""Of address space, above what the process has when it begins."""
_RUNS: Final = re.compile(
    r"os\.(system|exec|posix_spawn|spawn|fork|forkpty)|subprocess\.Popen|pickle\.find_class"
    r"|socket\.(connect|bind)|ctypes\.dlopen"
)
_CHANGES: Final = re.compile(
    r"os\.(remove|rename|mkdir|rmdir|link|symlink|truncate|chmod|chown)|shutil\..*"
)
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Sees what a case does to the world, by Python's audit events (PEP 578)."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Take in one event."""
        if self.folder is None:
            return
        if _RUNS.fullmatch(event):
            self.seen.append(f"{event}{args!r}"[:200])
        elif event == "open" and self._writes(*args[:3]) and self._is_outside(args[0]):
            self.seen.append(f"writes {args[0]!r}"[:200])
        elif _CHANGES.fullmatch(event) and any(self._is_outside(path) for path in args[:2]):
            self.seen.append(f"{event}{args!r}"[:200])

    def _writes(self, path: object, mode: object, flags: object) -> bool:
        by_mode = isinstance(mode, str) and bool(set(mode) & set("wax+"))
        return by_mode or (isinstance(flags, int) and bool(flags & _WRITES))

    def _is_outside(self, path: object) -> bool:
        # A number is a file that is open already, or a mode.
        if self.folder is None or not isinstance(path, str | bytes | os.PathLike):
            return False
        return not os.path.realpath(os.fsdecode(path)).startswith(self.folder)


def main() -> None:
    """Run cases: arguments are a folder, seed, first, stop, seconds a case, and the kinds."""
    folder, seed, first, stop, limit_s, *kinds = sys.argv[1:]
    warnings.simplefilter("ignore")
    watch = Watch()
    sys.addaudithook(watch)
    _warm_up(kinds, Path(folder))
    now = _memory_bytes("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM_BYTES, now + ROOM_BYTES))
    for number in range(int(first), int(stop)):
        kind = kinds[number % len(kinds)]
        _say({"number": number, "kind": kind})
        case = Path(folder, str(number))
        case.mkdir()
        _say(_run(watch, kind, f"{seed}/{kind}/{number}", case, float(limit_s)))
        shutil.rmtree(case)


def _run(watch: Watch, kind: str, key: str, folder: Path, limit_s: float) -> dict[str, Any]:
    """Run one case and say how it ended; the process ends by SIGALRM if it takes too long."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is this case's from here on
    watch.folder, watch.seen = str(folder.resolve()), []
    outcome, problem = "fine", ""
    started_s = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        SUBJECTS[kind](random.Random(key), folder)
    except ProjectError as error:
        outcome = type(error).__name__
    except BaseException as error:
        outcome, problem = f"bug: {type(error).__name__}", "".join(traceback.format_exc()[-1500:])
    signal.setitimer(signal.ITIMER_REAL, 0)
    watch.folder = None
    if watch.seen:
        outcome, problem = "bug: not contained", "\n".join(watch.seen)
    return {
        "outcome": outcome,
        "problem": problem,
        "elapsed_s": time.perf_counter() - started_s,
        "peak_bytes": _memory_bytes("VmHWM"),
    }


def _warm_up(kinds: list[str], folder: Path) -> None:
    """Import and draw all that cases share, so that their memory and time are their own."""
    for kind in kinds:
        for number in range(2):
            case = folder / f"{kind}-{number}"
            case.mkdir()
            try:
                SUBJECTS[kind](random.Random(number), case)
            except ProjectError:
                continue


def _memory_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise LookupError(name)


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
