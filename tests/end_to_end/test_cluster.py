"""On two nodes with addresses of their own: training, evaluation, and jobs that are submitted.

Where network namespaces cannot be had, jobs are submitted to one node, and the rest is left out.
"""

import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from end_to_end_tools import (
    SMALL,
    Cli,
    Reference,
    Services,
    check_epochs,
    check_points,
    copy_objects,
    effective_rows,
    ids_by_step,
    is_checkpoint,
)
from mlflow.tracking import MlflowClient
from one_node import OneNode, one_node
from two_nodes import NoNamespacesError, TwoNodes, ask_dashboard, two_nodes

from infra.store import FolderStore
from infra.store.s3 import S3Store
from infra.store.s3_client import forget_clients

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
JOB_S = 240
RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that the second node does not see."""
    return tmp_path_factory.mktemp("private")


@contextmanager
def a_cluster(services: Services, folder: Path, hidden: Path | None = None) -> Iterator[TwoNodes]:
    """Two nodes of one CPU each; S3's secrets are in the environment that Ray was started from."""
    ports = {"AWS_ENDPOINT_URL": services.s3.port, "MLFLOW_TRACKING_URI": services.mlflow.port}
    environment = services.s3.environment
    try:
        with two_nodes(folder, environment=environment, servers=ports, hidden=hidden) as nodes:
            yield nodes
    except NoNamespacesError as error:
        pytest.skip(f"no two nodes: {error}")


@pytest.fixture(scope="module")
def nodes(
    services: Services, private: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoNodes]:
    """A cluster that nothing happens to."""
    with a_cluster(services, tmp_path_factory.mktemp("nodes"), hidden=private) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def some_nodes(
    request: pytest.FixtureRequest, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoNodes | OneNode]:
    """The cluster of two nodes, or one node: for what needs no second one."""
    try:
        two: TwoNodes | None = request.getfixturevalue("nodes")
    except pytest.skip.Exception:
        two = None
    if two is not None:
        yield two
        return
    environment = {**services.s3.environment, "MLFLOW_TRACKING_URI": services.mlflow.uri}
    with one_node(tmp_path_factory.mktemp("node"), environment=environment) as one:
        yield one


@dataclass(frozen=True)
class OnTheCluster:
    """A workspace in S3, used from beside the head."""

    nodes: TwoNodes | OneNode
    store: S3Store

    @property
    def tracking_uri(self) -> str:
        return self.nodes.environment["MLFLOW_TRACKING_URI"]

    @property
    def cli(self) -> Cli:
        return Cli(
            self.store.uri,
            environment={**self.nodes.environment, "RAY_ADDRESS": self.nodes.address},
            options=("--tracking-uri", self.tracking_uri),
            prefix=self.nodes.prefix,
        )

    @property
    def on_one_node(self) -> Cli:
        """The same workspace, from this host and with a Ray of its own."""
        environment = {k: v for k, v in self.nodes.environment.items() if k.startswith("AWS_")}
        return Cli(self.store.uri, environment=environment, options=self.cli.options)

    def submit(
        self,
        *words: str,
        settings: tuple[str, ...] = (),
        options: Any = (),
        workspace: str | None = None,
    ) -> "Job":
        command = [RAY, "job", "submit", "--address", self.nodes.dashboard, *options]
        command += ["--working-dir", str(ROOT), "--", "alexnet", *words]
        command += ["--workspace", workspace or self.store.uri, *self.cli.options]
        for setting in (*SMALL, *settings):
            command += ["--set", setting]
        done = subprocess.run(
            command,
            env=self.nodes.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=JOB_S,
        )
        return Job(done.returncode, done.stdout + done.stderr)


@dataclass(frozen=True)
class Job:
    """What `ray job submit` returned and printed, the job's own log included."""

    code: int
    log: str


@pytest.fixture(scope="module")
def bucket(services: Services) -> Iterator[S3Store]:
    """The services' S3, which this process may look at."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in services.s3.environment.items():
            patch.setenv(name, value)
        forget_clients()
        yield S3Store(services.s3.bucket)
        forget_clients()


@pytest.fixture(scope="module")
def place(some_nodes: TwoNodes | OneNode, bucket: S3Store) -> OnTheCluster:
    """An empty workspace."""
    return OnTheCluster(some_nodes, bucket.child(f"cluster-{time.time_ns()}"))


@pytest.fixture(scope="module")
def finished(place: OnTheCluster, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A whole run: that of two workers, where there are two nodes."""
    if isinstance(place.nodes, TwoNodes):
        document: dict[str, Any] = request.getfixturevalue("two_workers")
        return document
    return place.cli.run_well("run", "demo")


@pytest.fixture(scope="module")
def two_workers(place: OnTheCluster, nodes: TwoNodes) -> dict[str, Any]:
    """A whole run with a worker on each node; where its workers were is checked on the way."""
    settings = ["scaling.workers=2", f"train.sample_log={place.store.uri}/log"]
    process = place.cli.start("run", "demo", settings=settings)
    homes: set[int] = set()
    while process.poll() is None:
        for node in (1, 2):
            if any("RayTrainWorker" in command for command in nodes.commands(node)):
                homes.add(node)
        time.sleep(0.5)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert homes == {1, 2}
    document: dict[str, Any] = place.cli.parse(out)
    return document


def test_a_worker_on_each_node_trains_on_the_same_batches_as_one(
    place: OnTheCluster, two_workers: dict[str, Any], reference: Reference, tmp_path: Path
) -> None:
    copy_objects(place.store.child("log"), FolderStore(tmp_path))
    run_key = two_workers["run_key"]
    assert run_key == reference.document["run_key"]
    rows = effective_rows(tmp_path, run_key)
    assert set(rows["world_size"].to_pylist()) == {2}
    expected = ids_by_step(effective_rows(reference.log, run_key))
    assert ids_by_step(rows) == expected
    check_points(place.tracking_uri, two_workers["mlflow_run_id"], reference)


def test_evaluation_counts_are_the_same_on_two_nodes_and_on_one(
    place: OnTheCluster, two_workers: dict[str, Any]
) -> None:
    for info in list(place.store.list("evaluations/")):
        place.store.delete(info.key)
    again = place.on_one_node.run_well("evaluate", "demo")
    for view in ("center", "ten_crop"):
        assert again[view] == two_workers[view]


def test_a_jobs_log_tells_how_it_ended(place: OnTheCluster, finished: dict[str, Any]) -> None:
    done = place.submit("run", "demo")
    assert done.code == 0, done.log
    assert f"model      {finished['model_uri']}" in done.log
    nothing = f"{place.store.uri}/nothing"
    refused: tuple[tuple[dict[str, Any], int, str], ...] = (
        ({"settings": ("train.epoch=3",)}, 2, "did you mean train.epochs?"),
        ({"workspace": "here"}, 2, "which Ray deletes"),
        ({"settings": (f"dataset.archives={nothing}",)}, 3, "holds no ILSVRC2012_img_train.tar"),
        ({"settings": ("gate.min_top1=1.0",)}, 5, "the gate refused this model"),
    )
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(place.submit, "run", "demo", **how) for how, _, _ in refused]
    for job, (_, code, said) in zip((job.result() for job in jobs), refused, strict=True):
        assert job.code == 1
        assert f"failed with exit code {code}" in job.log
        assert said in job.log
        assert "Traceback" not in job.log


def test_a_stopped_job_that_is_submitted_again_goes_on(
    place: OnTheCluster, finished: dict[str, Any], tmp_path: Path
) -> None:
    log = place.store.child("log-of-job")
    settings = ("run.tag=job", f"train.sample_log={log.uri}")
    name, before = f"job-{time.time_ns()}", keys_of_runs(place.store)
    options = ("--no-wait", "--submission-id", name)
    assert place.submit("train", "demo", settings=settings, options=options).code == 0
    wait_for_checkpoint(place.store, step=21, but=before)
    # At once: the training lasts some four seconds more, and the command takes two to start.
    ask_dashboard(place.nodes, f"/api/jobs/{name}/stop", method="POST")
    stop = [RAY, "job", "stop", "--address", place.nodes.dashboard, name]  # returns when it has
    subprocess.run(stop, env=place.nodes.environment, check=True, capture_output=True)
    assert status_of_newest_run(place.tracking_uri) == "KILLED"

    done = place.submit("train", "demo", settings=settings)
    assert done.code == 0, done.log
    copy_objects(log, FolderStore(tmp_path))
    (run_key,) = [path.name for path in tmp_path.iterdir()]
    check_epochs(tmp_path, run_key)
    rows = effective_rows(tmp_path, run_key)
    assert len(set(rows["attempt"].to_pylist())) == 2
    assert status_of_newest_run(place.tracking_uri) == "FINISHED"


def test_training_goes_on_when_a_node_dies(
    services: Services, bucket: S3Store, reference: Reference, tmp_path: Path
) -> None:
    with a_cluster(services, tmp_path / "nodes") as nodes:
        place = OnTheCluster(nodes, bucket.child(f"dying-{time.time_ns()}"))
        settings = ["scaling.workers={min: 1, max: 2}", f"train.sample_log={place.store.uri}/log"]
        process = place.cli.start("train", "demo", settings=settings)
        wait_for_checkpoint(place.store, step=21)
        nodes.kill(2)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "going on with" in err
    document = place.cli.parse(out)
    assert document["attempts"] == 2
    copy_objects(place.store.child("log"), FolderStore(tmp_path / "log"))
    check_epochs(tmp_path / "log", document["run_key"])
    expected = ids_by_step(effective_rows(reference.log, document["run_key"]))
    assert ids_by_step(effective_rows(tmp_path / "log", document["run_key"])) == expected


def test_a_directory_that_another_node_does_not_see_is_refused(
    place: OnTheCluster, nodes: TwoNodes, private: Path
) -> None:
    cli = Cli(private / "workspace", environment=place.cli.environment, prefix=place.cli.prefix)
    result = cli.run("run", "demo")
    assert result.code == 4, result.err
    assert "does not see" in result.document["error"]["message"]
    assert nodes.network.ip(2) in result.document["error"]["message"]
    assert "Traceback" not in result.err
    assert not cli.has("datasets/*/train/*")


def keys_of_runs(store: S3Store) -> set[str]:
    return {info.key for info in store.list("runs/")}


def wait_for_checkpoint(store: S3Store, *, step: int, but: Collection[str] = ()) -> None:
    """Wait for one that is none of those that were there before."""
    deadline = time.monotonic() + JOB_S
    while not any(is_checkpoint(key, step=step) for key in keys_of_runs(store).difference(but)):
        assert time.monotonic() < deadline, "no such checkpoint"
        time.sleep(0.2)


def status_of_newest_run(tracking_uri: str) -> str:
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("demo")
    (run,) = client.search_runs([experiment.experiment_id], max_results=1)
    status: str = run.info.status
    return status
