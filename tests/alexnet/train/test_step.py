import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from alexnet.settings import Precision
from alexnet.train.mixing import BlendedLabels
from alexnet.train.optimizer import MomentumSgd, OptimizerSettings, build_optimizer, set_rates
from alexnet.train.schedule import Rates
from alexnet.train.step import StepInputs, StepOptions, train_step


class Tiny(nn.Module):
    """Has all kinds of layers that an empty batch goes through; scales by key, so keys matter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.fc2 = nn.Linear(16, 5)

    def forward(self, images: Tensor, sample_keys: Tensor) -> Tensor:
        maps = torch.relu(self.pool(self.conv1(images))).flatten(1)
        logits: Tensor = self.fc2(maps * (1 + sample_keys[:, None] % 3))
        return logits


def _model() -> Tiny:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tiny().double()


def _optimizer(model: nn.Module, rate: float) -> MomentumSgd:
    optimizer = build_optimizer(model, OptimizerSettings())
    set_rates(optimizer, Rates(weight_rate=rate, bias_rate=2 * rate))
    return optimizer


def _batch(n: int) -> StepInputs:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 9, 9, generator=generator, dtype=torch.float64)
    return StepInputs(images, torch.arange(n) % 5, torch.arange(n))


def _reference_gradients(model: nn.Module, n: int) -> dict[str, Tensor]:
    """Of the mean over the whole batch, one image after the other."""
    batch = _batch(n)
    images, labels, keys = batch.images, batch.labels, batch.sample_keys
    model = copy.deepcopy(model)
    for i in range(n):
        logits = model(images[i : i + 1], keys[i : i + 1])[0]
        loss = (logits.exp().sum().log() - logits[labels[i]]) / n
        loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _averaged_gradients(model: nn.Module, shares: list[int]) -> tuple[dict[str, Tensor], float]:
    """What DDP would leave on every rank, and the sum of the ranks' losses."""
    whole = _batch(sum(shares))
    tensors = (whole.images, whole.labels, whole.sample_keys)
    parts = [torch.split(tensor, shares) for tensor in tensors]
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    loss = 0.0
    for rank in range(len(shares)):
        replica = copy.deepcopy(model)
        loss_sum = train_step(
            replica,
            _optimizer(replica, rate=0.0),  # leaves weights alone, and gradients to look at
            StepInputs(*(part[rank] for part in parts)),
            world_size=len(shares),
            batch_rows=sum(shares),
        )
        loss += float(loss_sum)
        for name, parameter in replica.named_parameters():
            assert parameter.grad is not None
            sums[name] += parameter.grad
    return {name: total / len(shares) for name, total in sums.items()}, loss


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(any))
def test_ranks_average_to_the_gradient_of_the_whole_batch(shares: list[int]) -> None:
    model = _model()
    averaged, loss = _averaged_gradients(model, shares)
    for name, gradient in _reference_gradients(model, sum(shares)).items():
        assert torch.allclose(averaged[name], gradient, rtol=1e-10, atol=1e-12)
    _, whole_loss = _averaged_gradients(model, [sum(shares)])
    assert loss == pytest.approx(whole_loss, rel=1e-6)


def test_an_empty_share_leaves_gradients_of_zero_and_still_steps() -> None:
    model = _model()
    before = copy.deepcopy(model.state_dict())
    loss_sum = train_step(model, _optimizer(model, 0.01), _batch(0), world_size=2, batch_rows=1)
    assert float(loss_sum) == 0.0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
        moved = not torch.equal(parameter, before[name])
        assert moved == name.endswith("weight")  # decay


def test_one_step_moves_against_the_gradient() -> None:
    model = _model()
    before = copy.deepcopy(model.state_dict())
    gradients = _reference_gradients(model, 6)
    train_step(model, _optimizer(model, 0.01), _batch(6), world_size=1, batch_rows=6)
    weight = before["fc2.weight"]
    expected = weight - 0.01 * gradients["fc2.weight"] - 0.01 * 0.0005 * weight
    assert torch.allclose(model.fc2.weight, expected, rtol=1e-10)
    bias = before["fc2.bias"] - 0.02 * gradients["fc2.bias"]
    assert torch.allclose(model.fc2.bias, bias, rtol=1e-10)


def test_gradients_of_the_step_before_are_forgotten() -> None:
    model = _model()
    optimizer = _optimizer(model, 0.0)
    for _ in range(2):
        train_step(model, optimizer, _batch(4), world_size=1, batch_rows=4)
    gradient = _reference_gradients(model, 4)["fc2.bias"]
    assert model.fc2.bias.grad is not None
    assert torch.allclose(model.fc2.bias.grad, gradient, rtol=1e-10)


def test_loss_is_a_detached_float32_sum_over_the_own_rows() -> None:
    model = _model()
    nn.init.zeros_(model.fc2.weight)
    nn.init.zeros_(model.fc2.bias)
    loss_sum = train_step(model, _optimizer(model, 0.0), _batch(7), world_size=3, batch_rows=20)
    assert loss_sum.shape == ()
    assert loss_sum.dtype == torch.float32
    assert not loss_sum.requires_grad
    assert float(loss_sum) == pytest.approx(7 * math.log(5))


def test_autocast_runs_the_forward_pass_in_bfloat16_and_keeps_weights_in_float32() -> None:
    model = _model().float()
    seen: list[torch.dtype] = []
    model.fc2.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits.dtype))
    batch = _batch(4)
    loss_sum = train_step(
        model,
        _optimizer(model, 0.01),
        replace(batch, images=batch.images.float()),
        world_size=1,
        batch_rows=4,
        options=StepOptions(precision="bf16"),
    )
    assert seen == [torch.bfloat16]
    assert loss_sum.dtype == torch.float32
    assert model.fc2.weight.dtype == torch.float32


@pytest.mark.parametrize(("precision", "rounds"), [("fp32", False), ("tf32", True)])
def test_both_passes_multiply_as_the_precision_says(precision: Precision, rounds: bool) -> None:
    seen: list[bool] = []
    model = _model()

    def note(*_: object) -> None:
        seen.append(torch.backends.cudnn.allow_tf32)
        seen.append(torch.backends.cuda.matmul.allow_tf32)

    model.fc2.register_forward_hook(note)
    model.fc2.register_full_backward_hook(note)
    options = StepOptions(precision=precision)
    train_step(
        model, _optimizer(model, 0.0), _batch(2), world_size=1, batch_rows=2, options=options
    )
    assert seen == [rounds] * 4


def test_label_smoothing_spreads_a_share_of_the_target() -> None:
    model, batch = _model(), _batch(3)
    expected = 0.0
    found = model(batch.images, batch.sample_keys).detach()
    for logits, label in zip(found, batch.labels, strict=True):
        log_p = torch.log_softmax(logits, 0)
        expected -= float(0.9 * log_p[label] + 0.1 * log_p.mean())
    loss_sum = train_step(
        model,
        _optimizer(model, rate=0.0),
        batch,
        world_size=1,
        batch_rows=3,
        options=StepOptions(label_smoothing=0.1),
    )
    assert float(loss_sum) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("microbatch", [1, 2, 3, 5, 7])
def test_pieces_add_up_to_the_whole_batch(microbatch: int) -> None:
    model, rows = _model(), 5
    sizes: list[int] = []
    model.conv1.register_forward_hook(lambda _module, inputs, _maps: sizes.append(len(inputs[0])))
    loss_sum = train_step(
        model,
        _optimizer(model, rate=0.0),
        _batch(rows),
        world_size=1,
        batch_rows=rows,
        options=StepOptions(microbatch=microbatch),
    )
    assert max(sizes) <= microbatch
    assert sum(sizes) == rows
    for name, gradient in _reference_gradients(model, rows).items():
        found = model.get_parameter(name).grad
        assert found is not None
        assert torch.allclose(found, gradient, rtol=1e-10, atol=1e-12)
    whole = train_step(model, _optimizer(model, 0.0), _batch(rows), world_size=1, batch_rows=rows)
    assert float(loss_sum) == pytest.approx(float(whole), rel=1e-6)


@pytest.mark.parametrize("microbatch", [None, 2])
def test_blended_labels_are_targets_in_proportion(microbatch: int | None) -> None:
    """The cross entropy with a target of two labels is linear in the target."""
    model, batch = _model(), _batch(4)
    labels = batch.labels
    others, shares = labels.flip(0), torch.tensor([1.0, 0.25, 0.5, 0.0])
    expected = 0.0
    for row, logits in enumerate(model(batch.images, batch.sample_keys).detach()):
        log_p, share = torch.log_softmax(logits, 0), float(shares[row])
        expected -= float(share * log_p[labels[row]] + (1 - share) * log_p[others[row]])
    loss_sum = train_step(
        model,
        _optimizer(model, rate=0.0),
        replace(batch, blended=BlendedLabels(others, shares)),
        world_size=1,
        batch_rows=4,
        options=StepOptions(microbatch=microbatch),
    )
    assert float(loss_sum) == pytest.approx(expected, rel=1e-6)
