"""A Ray of one node on this machine, to which jobs are submitted: where `two_nodes` cannot be had.

In processes that are ended by themselves: `ray stop` would end everybody's.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from two_nodes import END_S, OBJECT_STORE_BYTES, node_environment, wait_for_node

HOST = "127.0.0.1"


@dataclass(frozen=True)
class OneNode:
    """A head; what is asked of it is what `TwoNodes` answers of its own."""

    environment: dict[str, str]
    gcs_port: int
    dashboard_port: int

    @property
    def address(self) -> str:
        """What `ray.init(address=...)` takes."""
        return f"{HOST}:{self.gcs_port}"

    @property
    def prefix(self) -> tuple[str, ...]:
        """No words before a command."""
        return ()

    @property
    def dashboard(self) -> str:
        """What `ray job submit --address` takes."""
        return f"http://{HOST}:{self.dashboard_port}"


@contextmanager
def one_node(folder: Path, *, environment: Mapping[str, str]) -> Iterator[OneNode]:
    """Start a Ray node of two CPUs and end it, and all that runs below it.

    Args:
        folder: takes the logs.
        environment: for the node and for what is started beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    node = OneNode(node_environment(environment), _unused_port(), _unused_port())
    with ExitStack() as stack:
        # Sockets lie below it, and their paths may not be long.
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-")))
        stack.callback(_keep_logs, own, folder / "node")
        out = folder / "node.txt"
        with out.open("w") as said:
            process = subprocess.Popen(
                _command(node, own),
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=own,
                env={**node.environment, "TMPDIR": str(own)},
            )
        stack.callback(_end, process)
        wait_for_node(node, 1, process, out)
        yield node


def _command(node: OneNode, own: Path) -> list[str]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--head"]
    command += ["--disable-usage-stats", "--node-ip-address", HOST, "--num-cpus", "2"]
    command += ["--object-store-memory", str(OBJECT_STORE_BYTES), "--temp-dir", str(own)]
    command += ["--port", str(node.gcs_port), "--ray-client-server-port", str(_unused_port())]
    command += ["--dashboard-host", HOST, "--dashboard-port", str(node.dashboard_port)]
    # 0: whatever is free, for another Ray may run here.
    return [*command, "--dashboard-agent-listen-port", "0"]


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _end(process: "subprocess.Popen[str]") -> None:
    """SIGKILL `ray start --block` and all that runs below it."""
    below: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for child in below:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    _, alive = psutil.wait_procs(below, timeout=END_S)
    assert not alive, f"processes that do not end: {alive}"


def _keep_logs(own: Path, folder: Path) -> None:
    with suppress(OSError):  # a node that never came up has none
        shutil.copytree(own / "session_latest" / "logs", folder, dirs_exist_ok=True)
