import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from infra.ray_runtime import Resources
from infra.ray_session import ray_session
from infra.store import FolderStore
from infra.store.s3 import S3Store
from infra.store.s3_client import forget_clients
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for


def _make_importable(name: str) -> None:
    """Let tests import a helper that lies beside this file.

    By name: with this folder on the path, tests/preprocessing would hide the package.
    """
    spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


for _helper in (
    "jpeg_archives",
    "mlflow_server",
    "mlflow_window",
    "receipt_runs",
    "refusing_tracker",
    "s3_servers",
    "small_build",  # needs the first
    "two_nodes",
    "one_node",  # needs the one above
    "end_to_end_tools",  # needs those above
):
    _make_importable(_helper)
from s3_servers import (  # noqa: E402 - importable from here on
    MOTO,
    FaultyServer,
    RealServer,
    S3Server,
    ServerUnavailable,
    start_faulty_server,
    start_real_server,
)

S3_TESTS_RAN_ON = pytest.StashKey[str]()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if server := config.stash.get(S3_TESTS_RAN_ON, None):
        terminalreporter.write_line(f"S3 tests ran on {server}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real archives and devkit: $ALEXNET_TEST_DATA, else ../shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ALEXNET_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set ALEXNET_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def ray_local() -> Iterator[Resources]:
    """A Ray on this machine, shared by all tests of a run."""
    with ray_session() as resources:
        yield resources


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes with one thread: the bits depend on it."""
    from alexnet.threads import one_thread

    with one_thread():
        yield


@pytest.fixture
def workspace(tmp_path: Path) -> FolderStore:
    """An empty workspace."""
    return FolderStore(tmp_path / "workspace")


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, made once: its tables take two seconds."""
    folder = tmp_path_factory.mktemp("mlflow-template")
    MlflowTracker(place_for(FolderStore(folder), None)).check_reachable(timeout_s=120)
    return folder / "mlflow.db"


@pytest.fixture
def mlflow_place(tmp_path: Path, mlflow_template: Path) -> TrackingPlace:
    """An MLflow of the test's own, in a folder with a space in its name."""
    folder = tmp_path / "an mlflow"
    folder.mkdir()
    shutil.copy(mlflow_template, folder / "mlflow.db")
    return place_for(FolderStore(folder), None)


@pytest.fixture(scope="session")
def faulty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    """The server behind `faulty_s3`, which is what a test asks for."""
    with start_faulty_server(tmp_path_factory.mktemp("faulty-s3")) as server:
        yield server


@pytest.fixture
def faulty_s3(faulty_server: FaultyServer) -> Iterator[FaultyServer]:
    """An S3 that goes wrong as the test tells it; its objects stay for the next test."""
    yield faulty_server
    # After each test: where there is no other server, all S3 tests run on this one.
    faulty_server.clear_faults()


@pytest.fixture(scope="session")
def s3_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    """A real S3 when it can be had, else moto; the summary says which, and why. Objects stay."""
    try:
        server = start_real_server(tmp_path_factory.mktemp("s3"))
    except ServerUnavailable as error:
        request.config.stash[S3_TESTS_RAN_ON] = f"{MOTO} (no real server: {error})"
        yield request.getfixturevalue("faulty_server")
        return
    request.config.stash[S3_TESTS_RAN_ON] = server.kind
    with server:
        yield server


@pytest.fixture
def killable_s3(s3_server: S3Server) -> Iterator[RealServer]:
    """The real S3, which a test may kill: it runs again afterwards."""
    if not isinstance(s3_server, RealServer):
        pytest.skip("no real S3 server; the summary says why")
    yield s3_server
    s3_server.start()


def _use_s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    """Give this process the server's settings, and the test a place of its own."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield S3Store(server.bucket, f"tests/{secrets.token_hex(8)}")
    forget_clients()


@pytest.fixture
def s3_store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    """An empty place on the real S3, or on its substitute."""
    yield from _use_s3(s3_server, monkeypatch)


@pytest.fixture
def faulty_store(faulty_s3: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    """An empty place on the S3 that goes wrong as the test tells it."""
    yield from _use_s3(faulty_s3, monkeypatch)
