import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from alexnet.model import LocalResponseNorm, create_model, list_models
from alexnet.model.check_gradients import LIMIT, GradientCheck, check_gradients
from alexnet.model.dropout import KeyedDropout


class _Scaled(torch.autograd.Function):
    """x, with a gradient that is a factor too long."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


class Throwaway(nn.Module):
    """Two full layers and dropout; the weights of the second may get a wrong gradient."""

    def __init__(self, factor: float = 1.0, only: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(27, 16)
        self.dropout = KeyedDropout(0.5, stream=1)
        self.fc2 = nn.Linear(16, 5)
        self.factor, self.only = factor, only

    def forward(self, images: Tensor) -> Tensor:
        weight = self.fc2.weight
        wrong = _Scaled.apply(weight, self.factor)
        if self.only is not None:
            mask = torch.zeros_like(weight, dtype=torch.bool)
            mask[self.only] = True
            wrong = torch.where(mask, wrong, weight)
        x = self.dropout(torch.relu(self.fc1(images.flatten(1))))
        return nn.functional.linear(x, wrong, self.fc2.bias)


def checks_of(network: nn.Module, side: int = 3, classes: int = 5) -> dict[str, GradientCheck]:
    torch.manual_seed(1)
    images, labels = torch.randn(4, 3, side, side), torch.randint(classes, (4,))
    parameters = dict(network.named_parameters())
    return {check.name: check for check in check_gradients(network, images, labels, parameters)}


def throwaway(factor: float = 1.0, only: tuple[int, int] | None = None) -> Throwaway:
    torch.manual_seed(0)
    return Throwaway(factor, only)


def test_sound_gradients_are_far_below_the_limit() -> None:
    checks = checks_of(throwaway())
    assert list(checks) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert all(check.is_sound and check.relative_error < LIMIT / 10 for check in checks.values())
    assert checks["fc1.weight"].count == 27 * 16


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.9, 1.1, 2.0])
def test_a_wrong_gradient_is_found_and_how_wrong_it_is(factor: float) -> None:
    checks = checks_of(throwaway(factor))
    assert [name for name, check in checks.items() if not check.is_sound] == ["fc2.weight"]
    # Along any direction ours is the factor times theirs.
    expected = abs(factor - 1) / max(abs(factor), 1)
    assert checks["fc2.weight"].relative_error == pytest.approx(expected, abs=1e-3)


def test_one_wrong_weight_is_found_where_it_matters() -> None:
    """The steepest of all is moved by itself too."""
    network = throwaway()
    steepest = int(gradient_of(network, network.fc2.weight).abs().argmax())
    row, column = divmod(steepest, 16)
    assert not checks_of(throwaway(0.5, (row, column)))["fc2.weight"].is_sound


def gradient_of(network: nn.Module, parameter: nn.Parameter) -> Tensor:
    checks_of(network)  # scales the weights
    torch.manual_seed(1)
    images, labels = torch.randn(4, 3, 3, 3), torch.randint(5, (4,))
    loss = nn.functional.cross_entropy(network(images.double()), labels)
    return torch.autograd.grad(loss, [parameter])[0]


def test_a_norm_without_its_second_term_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Response norms are nearly straight where signals are small: they must not be here."""
    forward = LocalResponseNorm.forward

    def wrong(self: LocalResponseNorm, activations: Tensor) -> Tensor:
        normalised = forward(self, activations)
        factor = normalised / activations
        return activations * torch.where(activations == 0, 1.0, factor).detach()

    torch.manual_seed(0)
    network = create_model("alexnet-2012", 5, width=0.125, image_size=96)
    monkeypatch.setattr(LocalResponseNorm, "forward", wrong)
    wrong_ones = {name for name, c in checks_of(network, 96).items() if not c.is_sound}
    assert {"conv1.weight", "conv1.bias"} <= wrong_ones
    assert not wrong_ones & {"fc6.weight", "fc7.weight", "fc8.weight"}


def test_an_error_of_a_fraction_is_seen_in_random_directions() -> None:
    """A gradient with independent errors of 20 % is told from one with errors of 0.2 %."""

    class Noisy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: FunctionCtx, x: Tensor, share: float) -> Tensor:
            ctx.share = share
            return x.clone()

        @staticmethod
        def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
            noise = torch.randn(
                gradient.shape, generator=torch.Generator().manual_seed(5), dtype=gradient.dtype
            )
            return gradient + ctx.share * noise * gradient.square().mean().sqrt(), None

    class Network(Throwaway):
        share = 0.0

        def forward(self, images: Tensor) -> Tensor:
            x = self.dropout(torch.relu(self.fc1(images.flatten(1))))
            wrong = Noisy.apply(self.fc2.weight, self.share)
            return nn.functional.linear(x, wrong, self.fc2.bias)

    for share, is_sound in ((0.2, False), (0.002, True)):
        torch.manual_seed(0)
        network = Network()
        network.share = share
        assert checks_of(network)["fc2.weight"].is_sound is is_sound


def test_dropout_is_in_test_mode_and_what_is_moved_is_moved_back() -> None:
    network = throwaway()
    torch.manual_seed(1)
    images, labels = torch.randn(4, 3, 3, 3), torch.randint(5, (4,))
    checks = check_gradients(network, images, labels, dict(network.named_parameters()))
    assert next(checks).name == "fc1.weight"
    scaled = {name: value.clone() for name, value in network.state_dict().items()}
    assert len(list(checks)) == 3
    assert not network.dropout.training
    assert network.fc1.training
    assert all(torch.equal(value, scaled[name]) for name, value in network.state_dict().items())


def test_a_weight_without_influence_is_no_error() -> None:
    """A bias in front of a batch norm: both derivatives are nothing but rounding."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(27, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5)
    )
    checks = checks_of(network)
    assert checks["1.bias"].derivative < 1e-8
    assert all(check.is_sound for check in checks.values())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", list_models())
def test_every_network_is_sound_when_it_is_narrow(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, 5, width=0.125, image_size=24 if name.startswith("cifar") else 96)
    checks = checks_of(network, network.image_size)
    assert {check.name for check in checks.values() if not check.is_sound} == set()
    assert all(check.derivative > 1e-8 for name, check in checks.items() if "weight" in name)


class BreaksOff(nn.Module):
    """Its first bias alone may not grow: then the loss is no number; the gradient is right."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(27, 5)
        self.moved = 0

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc1(images.flatten(1))
        if not torch.is_grad_enabled():
            self.moved += 1
        # One pass to scale, six along directions; then single weights are moved.
        return logits * float("nan") if self.moved > 7 else logits


def test_a_loss_that_is_no_number_for_a_single_weight_is_wrong() -> None:
    torch.manual_seed(0)
    check = checks_of(BreaksOff())["fc1.weight"]
    assert not check.is_sound
