"""MLflow's own server, in a process of its own, with its files in S3."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 120


@dataclass(frozen=True)
class MlflowServer:
    """A server on this host's loopback."""

    port: int

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def mlflow_server(
    folder: Path, *, artifacts: str, environment: Mapping[str, str]
) -> Iterator[MlflowServer]:
    """Run a server with a database in a folder until the block ends.

    Args:
        folder: takes the database and the log.
        artifacts: where the server keeps files, for its clients too.
        environment: what it needs to get there.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", artifacts]
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
            env={**os.environ, **environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    try:
        _wait_for(port, process, folder / "mlflow.log")
        yield MlflowServer(port)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"MLflow did not start: {log.read_text()}")
        try:
            direct.open(f"http://127.0.0.1:{port}/health", timeout=10).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
