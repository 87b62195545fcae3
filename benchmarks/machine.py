"""What a figure was measured on: hardware, versions, commit. No name of a machine or a folder."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil
import torch

from infra.commit import Frozen

LIBRARIES: Final = ("torch", "ray", "pyarrow", "simplejpeg", "numpy", "pillow")


class Hardware(Frozen):
    """The machine."""

    cpu: str
    cpus: int
    """Those this process may run on."""
    memory_gib: float
    gpus: tuple[str, ...]


class Commit(Frozen):
    """The code."""

    id: str
    modified: bool
    """Whether files differed from it."""


def read_hardware() -> Hardware:
    """Look at this machine."""
    gpus = range(torch.cuda.device_count())
    return Hardware(
        cpu=_cpu_model(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _all_cpus(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpus=tuple(torch.cuda.get_device_name(number) for number in gpus),
    )


def read_versions() -> dict[str, str]:
    """Return the versions of Python and of what does the work, as far as it is installed."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):  # a lent GPU's machine has neither Ray nor simplejpeg
            versions[name] = version(name)
    return versions


def read_commit() -> Commit | None:
    """Return the commit of the checkout; none where there is no git or no repository."""
    try:
        head, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return None
    return Commit(id=head, modified=bool(status))


def load_average() -> float:
    """Return how many processes wanted a CPU in the last minute."""
    return round(os.getloadavg()[0], 2)


def _all_cpus() -> int:
    return os.cpu_count() or 1


def _git(*words: str) -> str:
    here = Path(__file__).parent
    command = ["git", *words]
    done = subprocess.run(command, cwd=here, capture_output=True, check=True, text=True)
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
