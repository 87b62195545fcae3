"""Two Ray nodes on this machine, each in a network namespace of its own, as if on two hosts."""

import os
import secrets
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil

GCS_PORT = 6379
DASHBOARD_PORT = 8265
START_S = 120
END_S = 20
OBJECT_STORE_BYTES = 300_000_000
_COVER = 'mount -t tmpfs tmpfs "$1" && shift && exec "$@"'


class NoNamespacesError(Exception):
    """Network namespaces cannot be had here; the message says why."""


class Dashboard(Protocol):
    """A cluster that can be asked for its nodes."""

    environment: dict[str, str]

    @property
    def dashboard(self) -> str: ...


@dataclass
class TwoNodes:
    """A head and a second node, joined by a bridge on which the host has an address too."""

    network: "_Network"
    environment: dict[str, str]
    stack: ExitStack = field(repr=False)

    @property
    def address(self) -> str:
        """What `ray.init(address=...)` takes, inside the head's namespace."""
        return f"{self.network.ip(1)}:{GCS_PORT}"

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words before a command that is to run beside the head."""
        return tuple(self.network.inside(1, []))

    @property
    def dashboard(self) -> str:
        """What `ray job submit --address` takes, here as well as inside."""
        return f"http://{self.network.ip(1)}:{DASHBOARD_PORT}"

    def run(
        self, command: Sequence[str], *, node: int = 1, **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in a node's namespace, the head's unless told."""
        usual = {"capture_output": True, "text": True, "check": False, "env": self.environment}
        return subprocess.run(self.network.inside(node, command), **{**usual, **options})

    def start(
        self, command: Sequence[str], *, node: int = 1, **options: Any
    ) -> "subprocess.Popen[str]":
        """Start a command there; it is killed at the end, whatever it does."""
        process: subprocess.Popen[str] = subprocess.Popen(
            self.network.inside(node, command), **{"env": self.environment, **options}
        )
        self.stack.callback(_end, process)
        return process

    def forward(self, port: int) -> str:
        """Make a server on this host's 127.0.0.1:port reachable from both nodes; return its URL."""
        here = self.network.ip(254)
        server = self.stack.enter_context(_Forwarder(here, port))
        return f"http://{here}:{server.server_address[1]}"

    def commands(self, node: int) -> list[str]:
        """Return the command lines of all that runs on a node."""
        return [" ".join(psutil.Process(pid).cmdline()) for pid in self.network.pids(node)]

    def kill(self, node: int) -> None:
        """SIGKILL all that runs on a node, as when its host dies."""
        self.network.kill(node)


@contextmanager
def two_nodes(
    folder: Path,
    *,
    environment: Mapping[str, str] = {},
    servers: Mapping[str, int] = {},
    hidden: Path | None = None,
    cpus: tuple[float, float] = (1, 1),
) -> Iterator[TwoNodes]:
    """Start two Ray nodes and end them, and all that runs in their namespaces.

    Args:
        folder: takes the logs.
        environment: for the nodes and for what `run` runs.
        servers: ports of this host's loopback, by the variables that name the URLs which lead there
            from both nodes.
        hidden: a directory that the second node sees empty.
        cpus: what each node offers.

    Raises:
        NoNamespacesError: this process may not make network namespaces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        network = stack.enter_context(_network())
        nodes = TwoNodes(network, node_environment(environment), stack)
        nodes.environment.update({name: nodes.forward(port) for name, port in servers.items()})
        for node in (1, 2):
            # Sockets lie below it, and their paths may not be long.
            own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-")))
            stack.callback(_keep_logs, own, folder / f"node{node}")
            stack.callback(network.kill, node)
            out = folder / f"node{node}.txt"
            cover = hidden if node == 2 else None
            wait_for_node(nodes, node, _start(nodes, node, own, out, cpus[node - 1], cover), out)
        yield nodes


def node_environment(given: Mapping[str, str]) -> dict[str, str]:
    left_out = ("RAY_", "MLFLOW_", "GLOO_", "NCCL_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**inherited, "PATH": commands, "no_proxy": "10.0.0.0/8", **quiet, **given}


def _start(
    nodes: TwoNodes, node: int, own: Path, out: Path, cpus: float, hidden: Path | None
) -> "subprocess.Popen[str]":
    where = nodes.network.ip(node)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    command += ["--disable-usage-stats", "--node-ip-address", where, "--num-cpus", f"{cpus:g}"]
    command += ["--object-store-memory", str(OBJECT_STORE_BYTES), "--temp-dir", str(own)]
    if node == 1:
        command += ["--head", "--port", str(GCS_PORT)]
        command += ["--dashboard-host", where, "--dashboard-port", str(DASHBOARD_PORT)]
    else:
        command += ["--address", nodes.address]
    if hidden is not None:
        command = ["unshare", "-m", "sh", "-c", _COVER, "sh", str(hidden), *command]
    with out.open("w") as said:
        return nodes.start(
            command,
            node=node,
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=own,
            env={**nodes.environment, "TMPDIR": str(own)},
        )


def wait_for_node(
    nodes: "Dashboard", count: int, process: "subprocess.Popen[str]", out: Path
) -> None:
    """Wait until so many nodes are alive and the dashboard takes jobs."""
    deadline = time.monotonic() + START_S
    while _num_alive(nodes) < count:
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"Ray's node {count} did not come up: {out.read_text()}")
        time.sleep(0.2)


def ask_dashboard(nodes: "Dashboard", path: str, *, method: str = "GET") -> str:
    """Ask for a page, without a command's start, which takes seconds."""
    request = urllib.request.Request(f"{nodes.dashboard}{path}", method=method)
    token = nodes.environment.get("RAY_AUTH_TOKEN")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _num_alive(nodes: "Dashboard") -> int:
    try:
        return ask_dashboard(nodes, "/api/v0/nodes").count('"state": "ALIVE"')
    except OSError:  # no dashboard yet
        return 0


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def _keep_logs(own: Path, folder: Path) -> None:
    with suppress(OSError):  # a node that never came up has none
        shutil.copytree(own / "session_latest" / "logs", folder, dirs_exist_ok=True)


@dataclass(frozen=True)
class _Network:
    """A bridge and two namespaces, numbered 1 and 2."""

    name: str
    prefix: str

    def ip(self, number: int) -> str:
        return f"{self.prefix}.{number}"

    def namespace(self, node: int) -> str:
        return f"{self.name}-{node}"

    def inside(self, node: int, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.namespace(node), *command]

    def make(self) -> None:
        bridge = self.name
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{self.ip(254)}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for node in (1, 2):
            space, here, there = self.namespace(node), f"{bridge}-{node}", f"{bridge}_{node}"
            _ip("netns", "add", space)
            _ip("link", "add", here, "type", "veth", "peer", "name", there)
            _ip("link", "set", here, "master", bridge, "up")
            _ip("link", "set", there, "netns", space, "name", "eth0")
            _ip("-n", space, "addr", "add", f"{self.ip(node)}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")

    def kill(self, node: int) -> None:
        deadline = time.monotonic() + END_S
        while pids := self.pids(node):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < deadline, f"processes that do not end: {pids}"
            time.sleep(0.05)

    def pids(self, node: int) -> list[int]:
        listed = subprocess.run(
            ["ip", "netns", "pids", self.namespace(node)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(pid) for pid in listed.stdout.split() if _runs(int(pid))]

    def remove(self) -> None:
        for node in (1, 2):
            self.kill(node)
            _ip("netns", "del", self.namespace(node), check=False)
            _ip("link", "del", f"{self.name}-{node}", check=False)  # when it was not finished
        _ip("link", "del", self.name, check=False)


@contextmanager
def _network() -> Iterator[_Network]:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise NoNamespacesError("network namespaces need Linux and root")
    for command in ("ip", "unshare"):
        if shutil.which(command) is None:
            raise NoNamespacesError(f"there is no {command!r} (iproute2, util-linux)")
    network = _Network(f"ray{secrets.token_hex(3)}", _unused_prefix())
    try:
        try:
            network.make()
        except subprocess.CalledProcessError as error:
            raise NoNamespacesError(f"{error.cmd}: {error.stderr.strip()}") from error
        yield network
    finally:
        network.remove()


def _unused_prefix() -> str:
    used = [a.address for many in psutil.net_if_addrs().values() for a in many]
    while True:
        prefix = f"10.{100 + secrets.randbelow(100)}.{secrets.randbelow(256)}"
        if not any(address.startswith(f"{prefix}.") for address in used):
            return prefix


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=check)


class _Forwarder(socketserver.ThreadingTCPServer):
    """Passes connections on to a port of this host's loopback."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, 0), _Connection)
        self.target = ("127.0.0.1", port)
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Connection(socketserver.BaseRequestHandler):
    server: _Forwarder

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(self.server.target) as onward:
            back = threading.Thread(target=_copy, args=(onward, self.request), daemon=True)
            back.start()
            _copy(self.request, onward)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
