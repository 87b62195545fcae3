"""Whole commands in processes of their own, on small drawn data, killed where it hurts."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from mlflow.tracking import MlflowClient
from mlflow_server import MlflowServer
from s3_servers import S3Server

from infra.store import ObjectStore
from infra.store.s3 import S3Store

SMALL = (
    "dataset.drawn.train_per_class=50",
    "dataset.drawn.val_per_class=20",
    "prepare.rows_per_shard=64",
    "prepare.stored_px=48",
    "train.augment.crop_px=44",
    "train.epochs=6",
    "train.global_batch=32",
    "train.log_every_steps=3",
    "train.mixing={mixup: 0.2, cutmix: 1.0}",
    "train.average_decay=0.9",
    "scaling.microbatch=20",
    "model.width=0.125",
    "checkpoint.every_steps=7",
    "checkpoint.every_epochs=null",
    "gate.min_top1=0",
)
"""The demo, small enough that a run is mostly start-up: 500 images, 16 steps an epoch."""
TIMEOUT_S = 240

IN_A_TERMINAL = """
import os, signal, sys
os.setpgid(0, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""What a shell does before a command: Ctrl-C goes to its group, and is not ignored there."""

CHECKPOINT = re.compile(r"checkpoints/step-(?P<step>\d+)-a(?P<attempt>\d+)/receipt\.json$")


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class Cli:
    """The installed command on one workspace, a directory or a URI."""

    workspace: Any  # a Path, or a URI's text
    settings: tuple[str, ...] = SMALL
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    """Words that every command gets, such as --tracking-uri and where that is."""
    prefix: tuple[str, ...] = ()
    """Words before the command: what it runs under."""

    def start(self, *words: str, settings: Sequence[str] = ()) -> "subprocess.Popen[str]":
        command = [*self.prefix, str(Path(sys.executable).with_name("alexnet")), *words]
        command += ["--workspace", str(self.workspace), *self.options, "--json"]
        for setting in (*self.settings, *settings):
            command += ["--set", setting]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**_environment(), **self.environment},
        )

    def run(self, *words: str, settings: Sequence[str] = ()) -> Result:
        process = self.start(*words, settings=settings)
        out, err = process.communicate(timeout=TIMEOUT_S)
        return Result(process.returncode, out, err)

    def run_well(self, *words: str, settings: Sequence[str] = ()) -> dict[str, Any]:
        result = self.run(*words, settings=settings)
        assert result.code == 0, result.err
        return result.document

    def kill_when(
        self,
        reached: Callable[[], bool],
        *words: str,
        settings: Sequence[str] = (),
        children_too: bool = False,
    ) -> None:
        """Start a command and SIGKILL it, and it alone, as soon as something is reached.

        With `children_too` all that it started dies with it, as if the power went.
        """
        process = self.start(*words, settings=settings)
        wait_until(reached, process)
        children = psutil.Process(process.pid).children(recursive=True) if children_too else []
        process.send_signal(signal.SIGKILL)
        for child in children:
            child.kill()
        process.communicate()
        psutil.wait_procs(children, timeout=TIMEOUT_S)

    def interrupt_when(
        self, reached: Callable[[], bool], *words: str, settings: Sequence[str] = ()
    ) -> Result:
        """Start a command as a terminal does, and press Ctrl-C as soon as something is reached."""
        shell = replace(self, prefix=(sys.executable, "-c", IN_A_TERMINAL))
        process = shell.start(*words, settings=settings)
        wait_until(reached, process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
        return Result(process.returncode, out, err)

    def parse(self, out: str) -> dict[str, Any]:
        """Return the document that a command printed."""
        return Result(0, out, "").document

    def copy(self, workspace: Path) -> "Cli":
        """Return the same command on a copy of what was prepared, and of nothing else."""
        for folder in ("archives", "indexes", "datasets"):
            shutil.copytree(self.workspace / folder, workspace / folder)
        return Cli(workspace, self.settings, self.environment)

    def copy_all(self, workspace: Path) -> "Cli":
        """Return the same command on a copy of the whole workspace."""
        shutil.copytree(self.workspace, workspace)
        return Cli(workspace, self.settings, self.environment)

    def has(self, pattern: str) -> bool:
        return next(self.workspace.glob(pattern), None) is not None

    def has_checkpoint(self, *, step: int, attempt: int = 1) -> bool:
        """Tell whether a run has a whole one, as `is_checkpoint` counts."""
        found = self.workspace.glob("runs/*/checkpoints/*/receipt.json")
        return any(is_checkpoint(path.as_posix(), step=step, attempt=attempt) for path in found)


def is_checkpoint(key: str, *, step: int, attempt: int = 1) -> bool:
    """Tell whether a key is the receipt of one of this step or a later, by this attempt or a later.

    Who looks now and then may miss any single step: only the last two checkpoints are kept.
    """
    match = CHECKPOINT.search(key)
    return match is not None and int(match["step"]) >= step and int(match["attempt"]) >= attempt


def _environment() -> dict[str, str]:
    """Return this process's environment without what MLflow leaves there for children."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}


def wait_until(reached: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not reached():
        if process.poll() is not None:
            raise AssertionError(f"ended before it was reached: {process.communicate()[1]}")
        assert time.monotonic() < deadline, "never reached"
        time.sleep(0.005)


def copy_objects(source: ObjectStore, target: ObjectStore) -> None:
    """Copy every object, as people copy workspaces."""
    with ThreadPoolExecutor(16) as threads:
        keys = [info.key for info in source.list()]
        list(threads.map(lambda key: target.write(key, source.read(key)), keys))


def check_points(tracking_uri: str, run_id: str, like: "Reference") -> None:
    """The run is finished and has every point of the undisturbed one, once."""
    client = MlflowClient(tracking_uri)
    assert client.get_run(run_id).info.status == "FINISHED"
    expected = MlflowClient(f"sqlite:///{like.cli.workspace}/mlflow.db")
    for key in ("train/loss", "val/top1"):
        steps = [point.step for point in client.get_metric_history(run_id, key)]
        wanted = expected.get_metric_history(like.document["mlflow_run_id"], key)
        assert sorted(steps) == sorted(point.step for point in wanted), key


def check_epochs(log: Path, run_key: str, *, epochs: int = 6, images: int = 500) -> None:
    """Every image exactly once in every epoch."""
    rows = effective_rows(log, run_key)
    counts = Counter(zip(rows["epoch"].to_pylist(), rows["sample_id"].to_pylist(), strict=True))
    assert set(counts.values()) == {1}
    assert len(counts) == epochs * images


def kill_a_train_worker(process: "subprocess.Popen[str]") -> None:
    """SIGKILL one of Ray Train's workers below a command."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if "RayTrainWorker" in " ".join(child.cmdline()):
            child.kill()
            return
    raise AssertionError("no train worker")


def is_running(task: str, process: "subprocess.Popen[str]") -> bool:
    """Tell whether a Ray worker below a command is at a task or an actor's method: `Class.method`.

    Ray names the processes of its workers after what they do.
    """
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if f"ray::{task}" in " ".join(child.cmdline()):
                return True
    return False


def effective_rows(log: Path, run_key: str) -> pa.Table:
    """Read a sample log as an auditor would: of each global step what the last attempt did."""
    rows = pads.dataset(log / run_key, format="parquet").to_table()
    last = rows.group_by("global_step").aggregate([("attempt", "max")])
    joined = rows.join(last, "global_step")
    return joined.filter(pc.equal(joined["attempt"], joined["attempt_max"]))


def ids_by_step(rows: pa.Table) -> dict[int, list[int]]:
    """Return the sorted sample ids of every global batch."""
    steps: dict[int, list[int]] = {}
    for step, sample in zip(
        rows["global_step"].to_pylist(), rows["sample_id"].to_pylist(), strict=True
    ):
        steps.setdefault(step, []).append(sample)
    return {step: sorted(ids) for step, ids in sorted(steps.items())}


@dataclass(frozen=True)
class Reference:
    """A run that nothing disturbed, with its sample log."""

    cli: Cli
    log: Path
    document: dict[str, Any]

    def weights(self) -> str:
        return weights_of(self.cli)


def weights_of(cli: Cli) -> str:
    """Return the digest of the weights that a finished run ended with."""
    (receipt,) = cli.workspace.glob("runs/*/finished.json")
    digest: str = json.loads(receipt.read_text())["model_sha256"]
    return digest


@dataclass(frozen=True)
class Services:
    """What a team runs: an S3, and an MLflow that keeps its files there."""

    s3: S3Server
    mlflow: MlflowServer

    def cli(self, workspace: S3Store) -> Cli:
        """Return the command on a workspace in that S3."""
        options = ("--tracking-uri", self.mlflow.uri)
        return Cli(workspace.uri, environment=dict(self.s3.environment), options=options)
