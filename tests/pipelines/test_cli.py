"""Options that only the command line has to sort out; what commands do is tested elsewhere."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.errors import Interrupted
from pipelines import api
from pipelines.cli import app
from pipelines.defaults import package_version
from pipelines.inference import prediction


def test_runs_takes_its_options_before_and_after_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def compare(names: list[str], **options: Any) -> dict[str, Any]:
        asked.append((names, options["workspace"]))
        return {"link": None}

    monkeypatch.setattr(api, "compare_runs", compare)
    place = ["--workspace", str(tmp_path), "--json"]
    for words in (["runs", *place, "compare", "a", "b"], ["runs", "compare", "a", "b", *place]):
        result = CliRunner().invoke(app, words)
        assert json.loads(result.stdout) == {"link": None}
    assert asked == [(["a", "b"], str(tmp_path))] * 2
    listed = CliRunner().invoke(app, ["runs", *place])
    assert json.loads(listed.stdout) == {"runs": []}


def test_an_interrupted_prediction_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_images", interrupted)
    result = CliRunner().invoke(app, ["predict", "m", "a.jpg"])
    assert isinstance(result.exception, Interrupted)
    assert result.exception.problem == "interrupted; nothing was written"


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    assert CliRunner().invoke(app, ["--version"]).stdout == f"{package_version()}\n"
    monkeypatch.setattr("importlib.metadata.version", nothing)
    assert package_version() == "unknown"


@pytest.mark.parametrize(("level", "code"), [("debug", 0), ("", 0), ("CHATTY", 2)])
def test_the_level_of_logging_is_one_there_is(level: str, code: int) -> None:
    words = [sys.executable, "-m", "pipelines.cli", "recipes", "--json"]
    environment = {**os.environ, "ALEXNET_LOG": level}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    if code:
        error = json.loads(done.stdout)["error"]
        assert error["message"] == "$ALEXNET_LOG is 'CHATTY', which is no level of logging"
        assert "DEBUG, INFO, WARNING" in error["remedy"]
