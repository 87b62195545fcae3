"""S3 servers for tests, on loopback, in processes of their own: a real one, and one that fails.

Each ends with the process that started it, however that ends.
"""

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

CEPH = "Ceph's gateway"
MOTO = "moto with faults"
BUCKET = "test-bucket"
REGION = "us-east-1"
START_S = 90
"""Ceph takes eight seconds on an idle machine, moto less than one."""
INSTALL_S = 180
STOP_S = 60

# Read a line or the end of this process, whichever comes first, then stop the server.
GUARD = 'read -r _; exec "$@"'


class ServerUnavailable(Exception):
    """Says in one line why a server cannot be had."""


@dataclass(frozen=True, kw_only=True)
class S3Server(ABC):
    """A server with an empty bucket; leaving the `with` block ends it and its objects."""

    kind: str
    environment: Mapping[str, str]
    """What clients take their settings from: keys, endpoint, region, checksums."""
    bucket: str

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.environment["AWS_ENDPOINT_URL"]).netloc

    @property
    def port(self) -> int:
        """Of this host's loopback."""
        return int(self.address.rpartition(":")[2])

    @abstractmethod
    def stop(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@dataclass(frozen=True, kw_only=True)
class RealServer(S3Server):
    """Keeps its objects in a folder; what is acknowledged survives `kill`."""

    folder: Path
    guard: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """SIGKILL the gateway: clients see refused connections until `start`."""
        _call("kill", str(self.folder), timeout_s=STOP_S)

    def start(self) -> None:
        """Start what does not run, on the same port; return when it answers."""
        _call("up", str(self.folder), timeout_s=START_S)

    def stop(self) -> None:
        _stop_guarded(self.guard)
        shutil.rmtree(self.folder)


def start_real_server(folder: Path) -> RealServer:
    """Start Ceph's gateway, with its objects in an empty folder.

    Raises:
        ServerUnavailable: it is not there and cannot be installed, or does not start.
    """
    if _is_root_on_debian():
        _call("install", timeout_s=INSTALL_S)  # of no effect when all is there
    command = ["sh", "-c", GUARD, "sh", *_command("kill-all", str(folder))]
    # A session of its own: the interrupt that ends the tests must not end their guard.
    guard = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        out = _call("up", str(folder), "--bucket", BUCKET, "--region", REGION, timeout_s=START_S)
    except BaseException:
        _stop_guarded(guard)
        raise
    settings = dict(line.split("=", 1) for line in out.splitlines())
    bucket = settings.pop("S3_BUCKET")
    return RealServer(kind=CEPH, environment=settings, bucket=bucket, folder=folder, guard=guard)


def _stop_guarded(guard: "subprocess.Popen[bytes]") -> None:
    # A line, not only the end of the pipe: a forked process may hold the other end too.
    _, errors = guard.communicate(b"\n", timeout=STOP_S)
    if guard.returncode != 0:
        raise RuntimeError(f"the S3 server was not stopped: {errors.decode()}")


def _is_root_on_debian() -> bool:
    return os.geteuid() == 0 and Path("/etc/debian_version").exists()


def _command(*words: str) -> list[str]:
    """The script: in $ALEXNET_TEST_TOOLS, else ../shared/tools beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "tools"
    script = Path(os.environ.get("ALEXNET_TEST_TOOLS", beside)) / "s3-server"
    if not script.is_file():
        raise ServerUnavailable(f"no {script}: set ALEXNET_TEST_TOOLS")
    return [sys.executable, str(script), *words]


def _call(*words: str, timeout_s: float) -> str:
    process = subprocess.Popen(
        _command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, errors = process.communicate(timeout=timeout_s)
    except BaseException as error:
        _interrupt(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise ServerUnavailable(f"no end of s3-server {words[0]} in {timeout_s} s") from None
        raise
    if process.returncode != 0:
        last = errors.strip().splitlines() or [f"status {process.returncode}"]
        raise ServerUnavailable(f"s3-server {words[0]}: {_first_complaint(last)}")
    return out


def _interrupt(process: "subprocess.Popen[str]") -> None:
    """Not SIGKILL at once: on an interrupt the script ends what it began."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=STOP_S)
    except subprocess.TimeoutExpired:  # SIGINT may be ignored, as in a shell's background job
        process.kill()
        process.communicate()


def _first_complaint(lines: Sequence[str]) -> str:
    """The script's own line; others' logs may surround it."""
    prefix = "s3-server: "
    own = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    return (own or lines[-1:])[0]


@dataclass(frozen=True, kw_only=True)
class FaultyServer(S3Server):
    """Keeps its objects in memory, and goes wrong as told; see `faulty_s3.Rule`."""

    process: "subprocess.Popen[bytes]"

    def add_fault(
        self,
        fault: str | int,
        *,
        method: str = "*",
        path: str = "",
        query: str = "",
        count: int | None = None,
        rate: float = 1.0,
        seed: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Let matching requests go wrong: all, the next `count`, or a share drawn by `seed`.

        Args:
            fault: a status from 400 on, "reset" (of the connection), "truncate" (the answer's
                body), "lost-answer" (done, but answered with 500), "proxy-404" (a page of text, as
                from a proxy whose store restarts), "slow" (by `seconds`) or "ignore-conditions"
                (of a conditional PUT). The last two let later rules apply.
            path: a pattern searched for in "/bucket/key".
            query: one searched for in the query: "^$" a whole PUT, "partNumber=" a part.
        """
        rule = {
            "fault": fault,
            "method": method,
            "path": path,
            "query": query,
            "count": count,
            "rate": rate,
            "seed": seed,
            "seconds": seconds,
        }
        self._control("POST", [rule])

    def clear_faults(self) -> None:
        self._control("DELETE")

    def hits(self) -> list[int]:
        """How many requests each fault has met, in the order in which they were added."""
        return [rule["hits"] for rule in self._control("GET")]

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=STOP_S)

    def _control(self, method: str, rules: Sequence[Mapping[str, Any]] = ()) -> list[Any]:
        # Not urllib's opener: that would send it to a proxy.
        connection = http.client.HTTPConnection(self.address, timeout=START_S)
        try:
            connection.request(method, "/_faults", json.dumps(rules))
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(body)
        found: list[Any] = json.loads(body)
        return found


def start_faulty_server(folder: Path) -> FaultyServer:
    """Start moto behind `faulty_s3.py`; its log goes to a folder."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        (folder / "faulty_s3.log").open("wb") as log,
    ):
        environment = _new_settings(listener.getsockname()[1])
        program = str(Path(__file__).with_name("faulty_s3.py"))
        descriptor = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, program, "--listen-fd", str(descriptor), "--bucket", BUCKET],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            pass_fds=[descriptor],
            start_new_session=True,
        )
    server = FaultyServer(kind=MOTO, environment=environment, bucket=BUCKET, process=process)
    try:
        # It waits until the server listens, and is cut off if that dies: only it holds the socket.
        server.clear_faults()
    except BaseException as error:
        server.stop()
        if isinstance(error, OSError | http.client.HTTPException):
            raise ServerUnavailable((folder / "faulty_s3.log").read_text()) from error
        raise
    return server


def _new_settings(port: int) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": f"TEST{secrets.token_hex(8).upper()}",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        # pyarrow would else send framed bodies with trailers, which neither server understands.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
