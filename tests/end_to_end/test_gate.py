"""The gate through whole commands: who becomes champion, and what the shell sees."""

from pathlib import Path

import pytest
from end_to_end_tools import Cli, Reference

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(600)]


def champion(cli: Cli) -> str:
    version: str = Cli(cli.workspace, settings=()).run_well("inspect", "models:/alexnet@champion")[
        "version"
    ]
    return version


def test_champions_change_only_for_the_better(reference: Reference, tmp_path: Path) -> None:
    cli, first = reference.cli.copy_all(tmp_path / "workspace"), reference.document
    assert first["verdict"] == "accepted"
    assert champion(cli) == first["version"]

    # One epoch at a hundredth of the rates: hardly more than its fresh weights.
    worse = [
        "train.epochs=1",
        "train.schedule.weight_rate=0.0001",
        "train.schedule.bias_rate=0.0002",
    ]
    refused = cli.run("run", "demo", settings=worse)
    assert refused.code == 5, refused.err
    assert refused.document["verdict"] == "refused"
    assert refused.document["aliases"] == ["challenger"]
    assert champion(cli) == first["version"]
    repeated = cli.run("run", "demo", settings=worse)
    assert repeated.code == 5
    assert {step["state"] for step in repeated.document["steps"]} == {"holds"}
    assert repeated.document["version"] == refused.document["version"]

    better = cli.run_well("run", "demo", settings=["train.epochs=14"])
    assert better["center"]["top1"] > first["center"]["top1"]
    assert better["champion"] == first["version"]
    assert champion(cli) == better["version"]
