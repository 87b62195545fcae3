import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from infra.ray_runtime import Resources, ray_session
from infra.store import FolderStore
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


_make_importable("end_to_end_tools")
_make_importable("jpeg_archives")
_make_importable("mlflow_window")


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
