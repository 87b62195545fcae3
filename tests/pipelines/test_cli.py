"""Options that only the command line has to sort out; what commands do is tested elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.errors import Interrupted
from pipelines import api
from pipelines.cli import app
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
