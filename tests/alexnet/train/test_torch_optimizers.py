"""torch's rules under our rates, against torch's rules by themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from alexnet.settings import OptimizerSettings
from alexnet.train.checkpoint import TrainState, read_tensors, write_checkpoint
from alexnet.train.optimizer import (
    build_optimizer,
    load_optimizer_state,
    optimizer_state,
    set_rates,
)
from alexnet.train.schedule import Rates
from alexnet.train.schedule_settings import LayerRates
from infra.errors import DataError
from infra.store import FolderStore

STEPS = [(0.1, 0.2)] * 3 + [(0.01, 0.2)] * 3
"""Rates of weights and biases: the first are dropped tenfold, the others are not."""
RULES: dict[str, dict[str, Any]] = {
    "sgd": {"kind": "sgd"},
    "sgd nesterov": {"kind": "sgd", "nesterov": True, "momentum": 0.8},
    "sgd without momentum": {"kind": "sgd", "momentum": 0.0},
    "adamw": {"kind": "adamw", "weight_decay": 0.1},
    "adamw other betas": {
        "kind": "adamw", "weight_decay": 0.1, "momentum": 0.7, "second_momentum": 0.95,
        "epsilon": 1e-3,
    },
}  # fmt: skip


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.fc8 = nn.Linear(4, 2)


def two_layers() -> TwoLayers:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TwoLayers()


def build(**options: Any) -> tuple[TwoLayers, torch.optim.Optimizer]:
    model = two_layers()
    return model, build_optimizer(model, OptimizerSettings.model_validate(options))


def their_rule(model: nn.Module, options: dict[str, Any]) -> torch.optim.Optimizer:
    """torch's optimizer as one would write it, with two groups: weights first."""
    settings = OptimizerSettings.model_validate(options)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.nesterov)
    betas = (settings.momentum, settings.second_momentum)
    return torch.optim.AdamW(groups, betas=betas, eps=settings.epsilon)


def set_gradients(model: nn.Module, step: int) -> None:
    for number, weight in enumerate(model.parameters()):
        generator = torch.Generator().manual_seed(100 * step + number)
        weight.grad = torch.randn(weight.shape, generator=generator)


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        weight_rate, bias_rate = STEPS[step]
        set_rates(optimizer, Rates(weight_rate=weight_rate, bias_rate=bias_rate))
        set_gradients(model, step)
        optimizer.step()


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_steps_are_torchs_a_drop_of_the_rate_included(rule: str, clip_norm: float | None) -> None:
    model, optimizer = build(**RULES[rule] | {"weight_decay": 0.1, "clip_norm": clip_norm})
    other = two_layers()
    theirs = their_rule(other, RULES[rule])
    for step, rates in enumerate(STEPS):
        advance(model, optimizer, range(step, step + 1))
        for group, rate in zip(theirs.param_groups, rates, strict=True):
            group["lr"] = rate
        set_gradients(other, step)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(other.parameters(), clip_norm)
        theirs.step()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name], rtol=1e-6, atol=1e-7)


def test_a_drop_of_the_rate_shrinks_what_the_velocity_does_unlike_in_2012() -> None:
    """In numbers: V settles at 10 g; the step before a tenfold drop is 10 rate g, after it 1."""
    moves = {}
    for kind in ("sgd", "sgd-2012"):
        model, optimizer = build(kind=kind, weight_decay=0.0)
        moved = []
        for rate in [0.01] * 200 + [0.001]:
            set_rates(optimizer, Rates(weight_rate=rate, bias_rate=rate))
            for weight in model.parameters():
                weight.grad = torch.ones_like(weight)
            before = model.fc8.weight.detach().clone()
            optimizer.step()
            moved.append(float((before - model.fc8.weight).detach().mean()))
        moves[kind] = moved[-2:]
    assert moves["sgd"] == pytest.approx([0.1, 0.01], rel=1e-4)
    assert moves["sgd-2012"] == pytest.approx([0.1, 0.091], rel=1e-4)


@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_a_rate_of_zero_leaves_weights_and_state_alone(rule: str) -> None:
    model, optimizer = build(**RULES[rule])
    advance(model, optimizer, range(2))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: tensor.clone() for name, tensor in optimizer_state(optimizer).items()}
    frozen = {"conv1": LayerRates(weight_rate=0, bias_rate=0)}
    set_rates(optimizer, Rates(weight_rate=0.1, bias_rate=0.1, layers=frozen))
    set_gradients(model, 2)
    optimizer.step()
    for before, now in ((weights, model.state_dict()), (state, optimizer_state(optimizer))):
        for name, tensor in now.items():
            assert torch.equal(tensor, before[name]) == name.startswith("conv1"), name


@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_a_long_gradient_counts_what_is_frozen_too(rule: str) -> None:
    """As it does by the rule of 2012."""
    model, optimizer = build(**RULES[rule], clip_norm=1.0)
    frozen = {"conv1": LayerRates(weight_rate=0, bias_rate=0)}
    set_rates(optimizer, Rates(weight_rate=0.1, bias_rate=0.1, layers=frozen))
    set_gradients(model, 0)
    every = torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])
    bias = model.fc8.bias.grad
    assert bias is not None
    expected = bias / every.norm()
    optimizer.step()
    assert torch.allclose(bias, expected, rtol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stop", range(len(STEPS)))
def test_resumed_from_a_checkpoint_is_as_never_stopped_to_the_bit(
    tmp_path: Path, rule: str, stop: int
) -> None:
    whole, its_optimizer = build(**RULES[rule])
    advance(whole, its_optimizer, range(len(STEPS)))

    stopped, optimizer = build(**RULES[rule])
    advance(stopped, optimizer, range(stop))
    state = TrainState.model_construct(step=stop, attempt=1)
    run = FolderStore(tmp_path)
    receipt = write_checkpoint(run, state, stopped.state_dict(), optimizer_state(optimizer))
    store = run.child(receipt.folder)

    resumed, other = build(**RULES[rule])
    resumed.load_state_dict(read_tensors(store, receipt.model))
    load_optimizer_state(other, read_tensors(store, receipt.optimizer))
    advance(resumed, other, range(stop, len(STEPS)))
    assert_equal(resumed.state_dict(), whole.state_dict())
    assert_equal(optimizer_state(other), optimizer_state(its_optimizer))


def test_the_state_is_kept_by_parameter_and_by_what_it_is() -> None:
    names = [name for name, _ in two_layers().named_parameters()]
    _, sgd = build(kind="sgd")
    assert set(optimizer_state(sgd)) == {f"{name}/momentum_buffer" for name in names}
    model, adamw = build(**RULES["adamw"])
    kept = ("step", "exp_avg", "exp_avg_sq")
    assert set(optimizer_state(adamw)) == {f"{name}/{part}" for name in names for part in kept}
    advance(model, adamw, range(2))
    assert optimizer_state(adamw)["fc8.bias/step"] == 2


@pytest.mark.parametrize(("saved", "wanted"), [("sgd-2012", "sgd"), ("sgd", "adamw")])
def test_the_state_of_another_rule_is_refused(saved: str, wanted: str) -> None:
    _, theirs = build(kind=saved)
    _, ours = build(kind=wanted, weight_decay=0.1)
    with pytest.raises(DataError, match=r"conv1\.bias"):
        load_optimizer_state(ours, optimizer_state(theirs))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_stepping_without_rates_is_refused(kind: str) -> None:
    model, optimizer = build(**RULES[kind])
    set_gradients(model, 0)
    with pytest.raises(RuntimeError, match="call set_rates"):
        optimizer.step()


@pytest.mark.parametrize(("kind", "rule"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_it_is_torchs_own_rule_and_goes_over_lists(kind: str, rule: Callable[..., Any]) -> None:
    _, optimizer = build(**RULES[kind])
    assert type(optimizer) is rule
    assert {group["foreach"] for group in optimizer.param_groups} == {True}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"kind": "adamw", "lars_trust": 0.001}, "lars_trust"),
        ({"kind": "sgd", "lars_trust": 0.001}, "lars_trust"),
        ({"kind": "adamw", "nesterov": True}, "nesterov"),
        ({"kind": "sgd", "nesterov": True, "momentum": 0.0}, "nesterov"),
        ({"kind": "sgd", "second_momentum": 0.9}, "second_momentum"),
        ({"epsilon": 1e-3}, "epsilon"),
        ({"kind": "adam"}, "adamw"),
        ({"kind": "adamw"}, "adamw needs a weight_decay of its own"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(
    wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        OptimizerSettings.model_validate(wrong)
