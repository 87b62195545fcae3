from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from alexnet.model import AlexNet2012
from alexnet.train.optimizer import (
    MomentumSgd,
    OptimizerSettings,
    build_optimizer,
    layer_names,
    load_optimizer_state,
    optimizer_state,
    set_rates,
)
from alexnet.train.parameter_groups import kind_of, layer_of
from alexnet.train.schedule import Rates
from alexnet.train.schedule_settings import LayerRates
from infra.errors import DataError, RecipeError


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.fc8 = nn.Linear(4, 2)


def _build(**options: Any) -> tuple[TwoLayers, MomentumSgd]:
    model = TwoLayers().double()
    return model, build_optimizer(model, OptimizerSettings(**options))


def _rates(weight: float, bias: float, **layers: tuple[float, float]) -> Rates:
    own = {name: LayerRates(weight_rate=w, bias_rate=b) for name, (w, b) in layers.items()}
    return Rates(weight_rate=weight, bias_rate=bias, layers=own)


def _set_gradients(model: nn.Module, value: float) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, value)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(*[st.sampled_from([0.0, 0.001, 0.02])] * 4), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_any_run_of_steps_matches_the_formula(
    steps: list[tuple[float, float, float, float]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    model, optimizer = _build()
    ws = {name: weight.numpy() for name, weight in _weights(model).items()}
    vs = {name: np.zeros_like(w) for name, w in ws.items()}
    for conv1_weight, conv1_bias, weight, bias in steps:
        set_rates(optimizer, _rates(weight, bias, conv1=(conv1_weight, conv1_bias)))
        rate_of = {
            "conv1.weight": conv1_weight,
            "conv1.bias": conv1_bias,
            "fc8.weight": weight,
            "fc8.bias": bias,
        }
        for name, parameter in model.named_parameters():
            gradient = rng.normal(size=tuple(parameter.shape))
            parameter.grad = torch.from_numpy(gradient)
            rate, decay = rate_of[name], 0.0005 if name.endswith("weight") else 0.0
            if rate > 0:
                vs[name] = 0.9 * vs[name] - rate * gradient - decay * rate * ws[name]
                ws[name] = ws[name] + vs[name]
        optimizer.step()
    for name, velocity in optimizer_state(optimizer).items():
        assert np.allclose(velocity.numpy(), vs[name], rtol=1e-12, atol=1e-15)
    for name, found in _weights(model).items():
        assert np.allclose(found.numpy(), ws[name], rtol=1e-12, atol=1e-15)


def test_velocity_keeps_its_size_when_the_rate_drops() -> None:
    """In numbers: V settles at 10 rate g; after a tenfold drop the next V is 9.1 rate g."""
    model, optimizer = _build(weight_decay=0.0)
    set_rates(optimizer, _rates(0.01, 0.01))
    for _ in range(400):
        _set_gradients(model, -1.0)
        optimizer.step()
    velocity = optimizer_state(optimizer)["fc8.weight"]
    assert torch.allclose(velocity, torch.full_like(velocity, 10 * 0.01))
    set_rates(optimizer, _rates(0.001, 0.001))
    optimizer.step()
    assert torch.allclose(velocity, torch.full_like(velocity, 9.1 * 0.01))


def test_first_decay_is_5e_6_of_the_weight_and_biases_have_none() -> None:
    """In numbers: no gradient, rate 0.01, decay 0.0005."""
    model, optimizer = _build()
    before = _weights(model)
    set_rates(optimizer, _rates(0.01, 0.02))
    _set_gradients(model, 0.0)
    optimizer.step()
    after = _weights(model)
    change = after["conv1.weight"] - before["conv1.weight"]
    assert torch.allclose(change, -5e-6 * before["conv1.weight"], rtol=1e-8, atol=0)
    assert torch.equal(after["conv1.bias"], before["conv1.bias"])


def test_constant_rate_agrees_with_torchs_own_optimizer() -> None:
    model, optimizer = _build(weight_decay=0.0)
    other = TwoLayers().double()
    other.load_state_dict(model.state_dict())
    theirs = torch.optim.SGD(other.parameters(), lr=0.01, momentum=0.9)
    set_rates(optimizer, _rates(0.01, 0.01))
    for step in range(5):
        for network in (model, other):
            _set_gradients(network, 1.0 + step)
        optimizer.step()
        theirs.step()
    for name, weight in _weights(other).items():
        assert torch.allclose(_weights(model)[name], weight, rtol=1e-12)


def test_a_rate_of_zero_stops_weight_velocity_and_decay() -> None:
    model, optimizer = _build()
    set_rates(optimizer, _rates(0.01, 0.02))
    _set_gradients(model, 1.0)
    optimizer.step()
    weights = _weights(model)
    velocities = {name: v.clone() for name, v in optimizer_state(optimizer).items()}
    set_rates(optimizer, _rates(0.01, 0.02, conv1=(0.0, 0.0)))
    optimizer.step()
    for kind in ("weight", "bias"):
        assert torch.equal(_weights(model)[f"conv1.{kind}"], weights[f"conv1.{kind}"])
        assert torch.equal(optimizer_state(optimizer)[f"conv1.{kind}"], velocities[f"conv1.{kind}"])
        assert not torch.equal(_weights(model)[f"fc8.{kind}"], weights[f"fc8.{kind}"])


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    model, optimizer = _build()
    set_rates(optimizer, _rates(0.01, 0.02))
    _set_gradients(model, 1.0)
    model.fc8.weight.grad = None
    before = _weights(model)
    optimizer.step()
    assert torch.equal(_weights(model)["fc8.weight"], before["fc8.weight"])
    assert not torch.equal(_weights(model)["fc8.bias"], before["fc8.bias"])


def test_groups_are_named_by_layer_and_kind() -> None:
    _, optimizer = _build()
    names = [group["name"] for group in optimizer.param_groups]
    assert names == ["conv1/weight", "conv1/bias", "fc8/weight", "fc8/bias"]
    assert layer_names(optimizer) == {"conv1", "fc8"}


@pytest.mark.parametrize(
    ("name", "layer", "kind"),
    [
        ("conv1.weight", "conv1", "weight"),
        ("fc6.bias", "fc6", "bias"),
        ("conv2.towers.1.weight", "conv2", "weight"),
        ("features.0.weight", "features.0", "weight"),
        ("classifier.6.bias", "classifier.6", "bias"),
    ],
)
def test_a_parameters_name_tells_layer_and_kind(name: str, layer: str, kind: str) -> None:
    assert (layer_of(name), kind_of(name)) == (layer, kind)


def test_frozen_parameters_belong_to_no_group() -> None:
    model = TwoLayers()
    model.conv1.requires_grad_(False)
    assert layer_names(build_optimizer(model, OptimizerSettings())) == {"fc8"}


def test_stepping_without_rates_is_refused() -> None:
    model, optimizer = _build()
    _set_gradients(model, 1.0)
    with pytest.raises(RuntimeError, match="call set_rates"):
        optimizer.step()


def test_nesterov_matches_torchs_at_a_constant_rate() -> None:
    model, optimizer = _build(nesterov=True)
    set_rates(optimizer, _rates(0.1, 0.1))
    other = TwoLayers().double()
    other.load_state_dict(model.state_dict())
    groups = [
        {"params": [p for p in other.parameters() if p.dim() > 1], "weight_decay": 0.0005},
        {"params": [p for p in other.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    theirs = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    for value in (1.0, -2.0, 0.5, 0.25):
        for network, own in ((model, optimizer), (other, theirs)):
            _set_gradients(network, value)
            own.step()
    for name, weight in _weights(other).items():
        torch.testing.assert_close(_weights(model)[name], weight, rtol=1e-10, atol=1e-12)


def test_rates_of_an_unknown_layer_are_refused() -> None:
    _, optimizer = _build()
    with pytest.raises(RecipeError, match="conv11") as refused:
        set_rates(optimizer, _rates(0.01, 0.02, conv11=(0.0, 0.0)))
    assert "conv1, fc8" in refused.value.remedy


def test_velocities_exist_from_the_start_and_travel_to_another_optimizer() -> None:
    model, optimizer = _build()
    names = [name for name, _ in model.named_parameters()]
    assert list(optimizer_state(optimizer)) == names
    assert all(not velocity.any() for velocity in optimizer_state(optimizer).values())
    set_rates(optimizer, _rates(0.01, 0.02))
    for value in (1.0, -2.0):
        _set_gradients(model, value)
        optimizer.step()

    resumed, other = _build()
    resumed.load_state_dict(model.state_dict())
    load_optimizer_state(other, optimizer_state(optimizer))
    set_rates(other, _rates(0.01, 0.02))
    for network, own in ((model, optimizer), (resumed, other)):
        _set_gradients(network, 0.5)
        own.step()
    for name, weight in _weights(model).items():
        assert torch.equal(_weights(resumed)[name], weight)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fc8.bias": None}, "fc8.bias"),
        ({"fc9.bias": torch.zeros(2).double()}, "fc9.bias"),
        ({"fc8.bias": torch.zeros(3).double()}, "fc8.bias"),
        ({"fc8.bias": torch.zeros(2)}, "fc8.bias"),
    ],
)
def test_velocities_that_do_not_fit_are_refused_whole(
    changes: dict[str, Tensor | None], named: str
) -> None:
    _, optimizer = _build()
    saved = {name: torch.ones_like(v) for name, v in optimizer_state(optimizer).items()}
    changed = {name: v for name, v in {**saved, **changes}.items() if v is not None}
    with pytest.raises(DataError, match=named):
        load_optimizer_state(optimizer, changed)
    assert all(not velocity.any() for velocity in optimizer_state(optimizer).values())


@pytest.mark.parametrize("wrong", [{"momentum": 1.0}, {"weight_decay": -1.0}, {"decay": 0.1}])
def test_settings_refuse_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        OptimizerSettings.model_validate(wrong)


def test_settings_are_the_papers() -> None:
    assert OptimizerSettings().model_dump() == {
        "kind": "sgd-2012",
        "momentum": 0.9,
        "second_momentum": 0.999,
        "epsilon": 1e-8,
        "nesterov": False,
        "weight_decay": 0.0005,
        "layer_decay": {},
        "decay_all": False,
        "lars_trust": None,
        "clip_norm": None,
    }


def test_all_weights_of_net_145_are_decayed_and_no_bias() -> None:
    with torch.device("meta"):
        groups = build_optimizer(AlexNet2012(), OptimizerSettings()).param_groups
    layers = [*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7", "fc8"]
    assert {group["name"]: group["weight_decay"] for group in groups} == {
        f"{layer}/{kind}": decay
        for layer in layers
        for kind, decay in (("weight", 0.0005), ("bias", 0.0))
    }


def test_a_layer_can_have_a_decay_of_its_own() -> None:
    """In numbers: 1 in fc10 of cifar-18pct, 0.004 elsewhere; no gradient, rate 0.01."""
    model, optimizer = _build(weight_decay=0.004, layer_decay={"fc8": 1.0})
    before = _weights(model)
    set_rates(optimizer, _rates(0.01, 0.02))
    _set_gradients(model, 0.0)
    optimizer.step()
    after = _weights(model)
    for name, share in (("conv1.weight", 4e-5), ("fc8.weight", 1e-2), ("fc8.bias", 0.0)):
        assert torch.allclose(after[name], (1 - share) * before[name], rtol=1e-12, atol=0)


def test_lars_matches_its_formula_tensor_by_tensor() -> None:
    rng = np.random.default_rng(2)
    decay, trust, rate = 0.01, 0.001, 3.0
    model, optimizer = _build(weight_decay=decay, lars_trust=trust, decay_all=True)
    ws = {name: weight.numpy() for name, weight in _weights(model).items()}
    vs = {name: np.zeros_like(w) for name, w in ws.items()}
    set_rates(optimizer, _rates(rate, rate))
    for _ in range(3):
        for name, parameter in model.named_parameters():
            gradient = rng.normal(size=tuple(parameter.shape))
            parameter.grad = torch.from_numpy(gradient)
            size, slope = np.linalg.norm(ws[name]), np.linalg.norm(gradient)
            local = trust * size / (slope + decay * size)
            vs[name] = 0.9 * vs[name] - rate * local * (gradient + decay * ws[name])
            ws[name] = ws[name] + vs[name]
        optimizer.step()
    for name, found in _weights(model).items():
        assert np.allclose(found.numpy(), ws[name], rtol=1e-11, atol=1e-14)


def test_lars_leaves_the_rate_of_a_tensor_of_norm_zero() -> None:
    model, optimizer = _build(lars_trust=0.001)
    with torch.no_grad():
        model.fc8.bias.zero_()
    set_rates(optimizer, _rates(0.5, 0.5))
    _set_gradients(model, 1.0)
    optimizer.step()
    assert torch.allclose(model.fc8.bias, torch.full_like(model.fc8.bias, -0.5))


@pytest.mark.parametrize(("limit", "share"), [(1.0, 0.25), (4.0, 1.0), (100.0, 1.0)])
def test_a_long_gradient_is_scaled_down(limit: float, share: float) -> None:
    model, optimizer = _build(clip_norm=limit, weight_decay=0.0)
    count = sum(parameter.numel() for parameter in model.parameters())
    _set_gradients(model, 4.0 / count**0.5)
    before = _weights(model)
    set_rates(optimizer, _rates(1.0, 1.0))
    optimizer.step()
    for name, found in _weights(model).items():
        moved = before[name] - found
        assert torch.allclose(moved, torch.full_like(moved, share * 4.0 / count**0.5), rtol=1e-5)
