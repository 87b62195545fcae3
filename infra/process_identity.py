"""Which process did this, and is it known to be dead."""

import os
import socket
from pathlib import Path

from infra.commit import Frozen

_PROC = Path("/proc")


class ProcessIdentity(Frozen):
    """One process of one machine, told apart from a later one with the same pid."""

    host: str
    boot: str
    """Boot of the kernel and namespace of the pid; empty where the system does not tell."""
    pid: int
    started: str
    """Start time in clock ticks since boot; empty where the system does not tell."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> ProcessIdentity:
    """Identify the calling process."""
    pid = os.getpid()
    return ProcessIdentity(
        host=socket.gethostname(), boot=_boot(), pid=pid, started=_state_and_start(pid)[1]
    )


def is_known_dead(process: ProcessIdentity) -> bool:
    """Tell whether a process is certainly gone; False when this machine cannot know."""
    if (process.host, process.boot) != (socket.gethostname(), _boot()):
        return False
    if not process.started:
        return not _answers(process.pid)
    state, started = _state_and_start(process.pid)
    if not state:
        # Gone, or another user's where /proc is mounted with hidepid.
        return not _answers(process.pid)
    # A zombie works no more; it stays until its parent looks, which may be never.
    return state in ("Z", "X") or started != process.started


def _boot() -> str:
    try:
        boot_id = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot_id} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _state_and_start(pid: int) -> tuple[str, str]:
    try:
        # A name of 15 bytes may end in the middle of a letter.
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return "", ""
    # The second field is the command in parentheses, and may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
