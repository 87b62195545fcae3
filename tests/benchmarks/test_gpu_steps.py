"""What is made for a lent GPU runs on a CPU first, at a small size."""

import pytest
import torch
from torch import nn

from alexnet.train.optimizer import build_optimizer
from benchmarks import gpu_steps
from benchmarks.gpu_steps import Size, losses_agree, main, plain_alexnet

SMALL = Size(image_px=67, num_classes=10, width=0.05)
WORDS = ["--image-px", "67", "--num-classes", "10", "--width", "0.05", "--batches", "4"]


def test_our_step_has_the_losses_of_torchs_own_modules_to_the_bit() -> None:
    assert losses_agree(SMALL, 4, torch.device("cpu"))


def test_another_step_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that decays more."""
    rule = gpu_steps.RULE.model_copy(update={"weight_decay": 0.1})
    monkeypatch.setattr(
        gpu_steps, "build_optimizer", lambda network, _: build_optimizer(network, rule)
    )
    assert not losses_agree(SMALL, 4, torch.device("cpu"))


def test_the_plain_network_has_none_of_our_modules() -> None:
    kinds = {type(layer) for layer in plain_alexnet(SMALL, 0.5)}
    assert all(kind.__module__.startswith("torch.nn") for kind in kinds)
    assert nn.Dropout in kinds


def test_every_network_is_measured_and_told_beside_torchvisions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_steps, "FLOOR", 0.0)
    networks = ["alexnet-torchvision", "alexnet-2012"]
    assert main([*WORDS, "--seconds", "0.01", "--precisions", "tf32", "--networks", *networks]) == 0
    rows = capsys.readouterr().out.strip().splitlines()[-3:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| torchvision's, plain", "| alexnet-torchvision", "| alexnet-2012"
    ]  # fmt: skip


def test_a_step_below_the_floor_ends_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_steps, "FLOOR", 1000.0)
    words = ["--seconds", "0.01", "--precisions", "fp32", "--networks", "alexnet-torchvision"]
    assert main([*WORDS, *words]) == 1
    assert "below 1000" in capsys.readouterr().err
