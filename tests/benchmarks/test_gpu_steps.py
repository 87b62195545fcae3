"""What is made for a lent GPU runs on a CPU first, at a small size."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from alexnet.model import list_models
from alexnet.train.optimizer import build_optimizer
from benchmarks import gpu_programs, gpu_steps
from benchmarks.gpu_programs import Case, Size, losses_agree, plain_alexnet, size_of
from benchmarks.gpu_steps import main, plan_cases
from infra.errors import RecipeError

SMALL = Size(image_px=67, num_classes=10, width=0.05)


def test_our_step_has_the_losses_of_torchs_own_modules_to_the_bit() -> None:
    assert losses_agree(SMALL, 4, torch.device("cpu"))


def test_another_step_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that decays more."""
    rule = gpu_programs.RULE.model_copy(update={"weight_decay": 0.1})
    monkeypatch.setattr(
        gpu_programs, "build_optimizer", lambda network, _: build_optimizer(network, rule)
    )
    assert not losses_agree(SMALL, 4, torch.device("cpu"))


def test_the_plain_network_has_none_of_our_modules() -> None:
    kinds = {type(layer) for layer in plain_alexnet(SMALL)}
    assert all(kind.__module__.startswith("torch.nn") for kind in kinds)
    assert nn.Dropout in kinds


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what `--quick` leaves out can be seen too."""
    monkeypatch.setattr(gpu_steps, "size_of", lambda network, quick: SMALL)


def words(tmp_path: Path, *networks: str, precision: str = "tf32") -> list[str]:
    given = ["--device=cpu", "--batches=4", "--seconds=0.01", "--no-compile"]
    return [*given, f"--output={tmp_path}", "--precisions", precision, "--networks", *networks]


def record_in(folder: Path) -> dict[str, object]:
    (path,) = folder.glob("gpu-steps-*.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found


@pytest.mark.usefixtures("small_sizes")
def test_every_network_is_measured_and_told_beside_torchvisions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_steps, "FLOOR", 0.0)
    assert main(words(tmp_path, "alexnet-torchvision", "alexnet-2012")) == 0
    rows = capsys.readouterr().out.strip().splitlines()[-3:]
    names = ["| torchvision's, plain", "| alexnet-torchvision", "| alexnet-2012"]
    assert [row.split(" | ")[0] for row in rows] == names
    (table,) = tmp_path.glob("*.md")
    assert all(f"{name} " in table.read_text() for name in names)
    record = record_in(tmp_path)
    assert record["planned"] == 3
    assert record["differing"] == []
    found = record["rows"]
    assert isinstance(found, list)
    assert found[0]["of_torchvision"] == 1.0
    assert found[2]["of_torchvision"] == found[2]["images_per_s"] / found[0]["images_per_s"]
    assert all(0 < row["images_per_s"] < row["floor_images_per_s"] for row in found)


@pytest.mark.usefixtures("small_sizes")
def test_a_step_below_the_floor_ends_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_steps, "FLOOR", 1000.0)
    assert main(words(tmp_path, "alexnet-torchvision", precision="fp32")) == 1
    assert "below 1000" in capsys.readouterr().err


@pytest.mark.usefixtures("small_sizes")
def test_a_network_that_fails_does_not_take_the_others_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_steps, "FLOOR", 0.0)
    build = gpu_programs.build_program

    def failing(case: Case, size: Size, device: torch.device) -> gpu_programs.Program:
        if case.network == "alexnet-2012":
            raise RecipeError("no compiler", remedy="install one")
        return build(case, size, device)

    monkeypatch.setattr(gpu_steps, "build_program", failing)
    assert main(words(tmp_path, "alexnet-2012", "alexnet-torchvision")) == 1
    record = record_in(tmp_path)
    assert record["failures"] == {"alexnet-2012, tf32, not compiled": "no compiler"}
    assert "no compiler" in capsys.readouterr().err
    found = record["rows"]
    assert isinstance(found, list)
    assert [row["network"] for row in found] == [gpu_programs.BASE, "alexnet-torchvision"]


def test_a_loss_that_is_not_finite_is_no_rate() -> None:
    def step() -> torch.Tensor:
        return torch.tensor(float("nan"))

    with pytest.raises(RuntimeError, match="finite"):
        gpu_steps._images_per_s(step, 4, torch.device("cpu"), 0.0)


@pytest.mark.usefixtures("small_sizes")
def test_nothing_begins_after_the_minutes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*words(tmp_path, "alexnet-torchvision"), "--minutes=0"]) == 0
    assert "0 of 2 were measured" in capsys.readouterr().err
    assert record_in(tmp_path)["rows"] == []


def test_what_matters_most_comes_first() -> None:
    cases = plan_cases(["a"], ["bf16", "fp32"], [1, 2], (False, True))
    assert cases[:5] == [
        Case(gpu_programs.BASE, "bf16", 1),
        Case(gpu_programs.BASE, "bf16", 2),
        Case("a", "bf16", 1),
        Case("a", "bf16", 2),
        Case(gpu_programs.BASE, "fp32", 1),
    ]
    assert [case.is_compiled for case in cases] == [False] * 8 + [True] * 8


def test_networks_have_the_size_that_they_were_made_for() -> None:
    assert size_of("alexnet-2012", quick=False) == Size(224, 1000, 1.0, 0.5)
    assert size_of("alexnet-bn", quick=False) == Size(227, 1000, 1.0, 0.5)
    assert size_of("cifar-11pct", quick=False) == Size(24, 10, 1.0, 0.0)
    assert size_of("cifar-11pct", quick=True).image_px == 24
    assert size_of("alexnet-bn", quick=True) == Size(67, 10, 0.05, 0.5)


def test_every_registered_network_runs_at_a_tiny_size(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = [*words(tmp_path, "all", precision="bf16"), "--quick"]
    assert main(given) == 0
    assert "tiny sizes" in capsys.readouterr().out
    found = record_in(tmp_path)["rows"]
    assert isinstance(found, list)
    assert {row["network"] for row in found} == {gpu_programs.BASE, *list_models()}
    cifar = [row for row in found if row["network"].startswith("cifar")]
    assert all(row["of_torchvision"] is None for row in cifar)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_compiled_steps_are_compared_with_the_compiled_plain_one(tmp_path: Path) -> None:
    given = [*words(tmp_path, "alexnet-torchvision", precision="fp32"), "--quick"]
    assert main([word for word in given if word != "--no-compile"]) == 0
    found = record_in(tmp_path)["rows"]
    assert isinstance(found, list)
    assert [row["is_compiled"] for row in found] == [False, False, True, True]
    assert found[3]["of_torchvision"] == found[3]["images_per_s"] / found[2]["images_per_s"]


def test_it_needs_neither_ray_nor_a_store() -> None:
    """The machine of a lent GPU has torch, NumPy, pyarrow and psutil; pydantic is brought there."""
    program = (
        "import sys, benchmarks.gpu_steps, benchmarks.local_response_norm\n"
        "print(*{'ray', 'mlflow', 'boto3', 'simplejpeg'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == ""
