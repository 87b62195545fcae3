import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from alexnet.model import LocalResponseNorm
from benchmarks import local_response_norm as bench


def test_it_measures_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "SHAPES", ((8, 5, 5),))
    monkeypatch.setattr(bench, "FLOOR", 0.0)
    path = tmp_path / "found.json"
    arguments = ["--batch=2", "--passes=2", "--steps=1", "--no-compile", f"--json={path}"]
    assert bench.main(arguments) == 0
    assert "ours / torch's, 8x5x5" in capsys.readouterr().out
    (comparison,) = json.loads(path.read_text())["comparisons"]
    assert len(comparison["ratios"]) == 2
    monkeypatch.setattr(bench, "FLOOR", 1e9)
    assert bench.main(arguments) == 1


def test_a_norm_that_is_not_exact_is_not_timed() -> None:
    maps = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0)) * 100
    bench.check(LocalResponseNorm(), maps)

    def rough(x: Tensor) -> Tensor:
        return LocalResponseNorm(scale=1.01e-4)(x)

    with pytest.raises(RuntimeError, match="differ from float64"):
        bench.check(rough, maps)


def test_what_a_gpu_is_measured_with_runs_on_a_cpu() -> None:
    options = bench.Options(batch=2, compiled=False, channels_last=True)
    ways = bench.measure_beside_copies((8, 5, 5), options, torch.device("cpu"), rounds=2)
    assert [way.name for way in ways] == [
        f"{name} 8x5x5, {way}" for name in ("ours", "torch's") for way in ("forward", "backward")
    ]


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        bench.main(["--device=cuda"])
    assert "torch finds no GPU here" in capsys.readouterr().err
