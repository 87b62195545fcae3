"""Which logged model a registration takes; what is in one is tested in test_register.py."""

from typing import Any

import pytest

from alexnet.release import log_model as module
from alexnet.release.log_model import delete_model, log_model
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace


@pytest.fixture
def run_id(mlflow_place: TrackingPlace, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run; its models are logged without files."""
    monkeypatch.setattr(module, "_log_files", lambda *_, **__: None)
    return MlflowTracker(mlflow_place).create_run(run_key="k", run_name="n")


def test_a_model_that_an_earlier_try_logged_is_taken_until_it_is_deleted(
    mlflow_place: TrackingPlace, run_id: str
) -> None:
    def log(key: str, run: str = run_id) -> str:
        return log_model(trained, tracking_uri=mlflow_place.uri, run_id=run, key=key)

    trained: Any = None
    first = log("one")
    assert log("one") == first
    other = log("two")
    assert other != first
    another_run = MlflowTracker(mlflow_place).create_run(run_key="k", run_name="n")
    assert log("one", another_run) not in {first, other}

    delete_model(first, tracking_uri=mlflow_place.uri)
    again = log("one")
    assert again != first
    assert log("one") == again


def test_a_model_that_was_logged_in_part_is_not_found(
    mlflow_place: TrackingPlace, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def killed(_: object, model_id: str, **__: object) -> None:
        tried.append(model_id)
        raise KeyboardInterrupt

    trained: Any = None
    with monkeypatch.context() as patch:
        patch.setattr(module, "_log_files", killed)
        with pytest.raises(KeyboardInterrupt):
            log_model(trained, tracking_uri=mlflow_place.uri, run_id=run_id, key="one")
    made = log_model(trained, tracking_uri=mlflow_place.uri, run_id=run_id, key="one")
    assert made not in tried
