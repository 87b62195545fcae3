import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from typer.testing import CliRunner

from alexnet.model import LocallyConnected
from infra.errors import DataError, RecipeError
from pipelines import api
from pipelines.cli import app
from pipelines.gradients import error_of
from pipelines.recipe_yaml import recipe_text

NETWORK = "cifar-80sec"


def test_a_networks_gradients_are_told_by_tensor(capsys: pytest.CaptureFixture[str]) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    found = api.check_gradients(NETWORK)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [tensor["name"] for tensor in found["tensors"]] == [
        f"{layer}.{kind}"
        for layer in ("conv1", "conv2", "conv3", "fc64", "fc10")
        for kind in ("weight", "bias")
    ]
    assert sum(tensor["count"] for tensor in found["tensors"]) == 145_578
    assert found["sound"] is True
    assert max(tensor["relative_error"] for tensor in found["tensors"]) < 0.005
    assert error_of(found) is None
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "checked conv1.weight, 1 of 10" in captured.err
    assert api.check_gradients(NETWORK) == found  # the same weights, images and directions


def test_one_layer_of_a_recipes_network(tmp_path: Path) -> None:
    found = api.check_gradients("cifar-18pct", ["conv1", "fc10"])
    names = {tensor["name"] for tensor in found["tensors"]}
    assert names == {"conv1.weight", "conv1.bias", "fc10.weight", "fc10.bias"}
    file = tmp_path / "mine.yaml"
    text = recipe_text("cifar-13pct").replace("dropout: 0\n", "dropout: 0\n  width: 0.5\n")
    file.write_text(text.replace("crop_px: 24", "crop_px: 16"))
    found = api.check_gradients(str(file), ["local4"])
    assert (found["image_size"], found["sound"]) == (16, True)
    assert found["tensors"][0]["count"] == 4 * 4 * 9 * 16 * 16


def test_what_is_neither_network_nor_recipe_nor_layer_is_refused() -> None:
    with pytest.raises(RecipeError, match="no network and no recipe 'alexnet-2013'"):
        api.check_gradients("alexnet-2013")
    with pytest.raises(RecipeError, match="no layer 'conv9' with weights") as caught:
        api.check_gradients(NETWORK, ["conv9"])
    assert "conv1, conv2, conv3, fc64, fc10" in caught.value.remedy


class _Forgetful(torch.autograd.Function):
    """Passes no gradient back."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient)


def test_a_wrong_layer_ends_with_3_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A locally connected layer that forgets the gradient of its biases."""
    forward = LocallyConnected.forward

    def wrong(self: LocallyConnected, x: Tensor) -> Tensor:
        bias = _Forgetful.apply(self.bias)
        return forward(self, x) - self.bias.detach() + bias - (self.bias - self.bias.detach())

    monkeypatch.setattr(LocallyConnected, "forward", wrong)
    words = ["check-gradients", "cifar-13pct", "--layer", "local3", "--layer", "conv2"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 3
    assert "cifar-13pct: gradients of local3.bias (relative error 1)" in result.stderr
    assert [line for line in result.stdout.splitlines() if line.endswith("  wrong")] != []
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert document["error"]["exit_code"] == 3
    assert [t["name"] for t in document["tensors"] if not t["sound"]] == ["local3.bias"]
    assert isinstance(error_of(document), DataError)


def test_what_is_no_number_is_null_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = LocallyConnected.forward
    calls = itertools.count()

    def moody(self: LocallyConnected, x: Tensor) -> Tensor:
        return forward(self, x) * (float("nan") if next(calls) > 2 else 1.0)

    monkeypatch.setattr(LocallyConnected, "forward", moody)
    words = ["check-gradients", "cifar-13pct", "--layer", "local3"]
    result = CliRunner().invoke(app, words)
    assert "local3.weight (no number)" in result.stderr
    assert "-  wrong" in result.stdout
    printed = CliRunner().invoke(app, [*words, "--json"]).stdout
    document = json.loads(printed, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert [t["relative_error"] for t in document["tensors"]] == [None, None]
    assert "error" in document
