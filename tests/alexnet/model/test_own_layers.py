import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from alexnet.model import GlobalBatchNorm, LocallyConnected, TowerLinear
from alexnet.model.own_layers import OverhangConv2d

Array = npt.NDArray[np.float64]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).double()


def filled(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        parameter.data = random(*parameter.shape)
    return layer


def slow_convolution(x: Array, weight: Array, bias: Array, stride: int, pad: int) -> Array:
    """The size rule of the release; outside the image there is nothing to add."""
    batch, _, side, _ = x.shape
    window = weight.shape[-1]
    size = 1 + math.ceil((2 * pad + side - window) / stride)
    out = np.zeros((batch, len(weight), size, size))
    for row, column in np.ndindex(size, size):
        for dy, dx in np.ndindex(window, window):
            y, x_ = row * stride + dy - pad, column * stride + dx - pad
            if 0 <= y < side and 0 <= x_ < side:
                out[:, :, row, column] += x[:, :, y, x_] @ weight[:, :, dy, dx].T
    return out + bias[:, None, None]


def slow_local(x: Array, weight: Array, bias: Array, window: int, pad: int) -> Array:
    """`weight` is (positions, inputs, maps), inputs by (channel, y, x)."""
    batch, channels, side, _ = x.shape
    _, rows, columns = bias.shape
    out = np.zeros((batch, *bias.shape))
    for row, column in np.ndindex(rows, columns):
        for i, (channel, dy, dx) in enumerate(np.ndindex(channels, window, window)):
            y, x_ = row + dy - pad, column + dx - pad
            if 0 <= y < side and 0 <= x_ < side:
                values = weight[row * columns + column, i]
                out[:, :, row, column] += x[:, channel, y, x_][:, None] * values
    return out + bias


@pytest.mark.parametrize("side", [11, 12, 13, 14, 15, 20])
@pytest.mark.parametrize("pad", [0, 2])
def test_last_windows_overhang_and_see_zeros(side: int, pad: int) -> None:
    layer = filled(OverhangConv2d(3, 2, 11, stride=4, padding=pad))
    x = random(2, 3, side, side)
    weight, bias = (p.detach().numpy() for p in layer.parameters())
    expected = slow_convolution(x.numpy(), weight, bias, 4, pad)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-10, atol=1e-10)


def test_the_first_convolution_on_224_pixels_sees_three_zeros_at_right_and_bottom() -> None:
    layer = OverhangConv2d(1, 1, 11, stride=4, bias=False)
    layer.weight.data.fill_(1)
    seen = layer(torch.ones(1, 1, 224, 224))[0, 0]
    assert seen.shape == (55, 55)
    assert (seen[:54, :54] == 121).all()
    assert (seen[54, :54] == 8 * 11).all()
    assert (seen[:54, 54] == 8 * 11).all()
    assert seen[54, 54] == 64


@pytest.mark.parametrize(("side", "window", "pad"), [(4, 3, 1), (5, 3, 0), (3, 2, 1)])
def test_a_locally_connected_layer_is_its_definition(side: int, window: int, pad: int) -> None:
    layer = filled(LocallyConnected(2, 3, side, window, pad))
    x = random(4, 2, side, side)
    weight, bias = (p.detach().numpy() for p in layer.parameters())
    expected = slow_local(x.numpy(), weight, bias, window, pad)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_with_the_same_weights_everywhere_it_is_a_convolution() -> None:
    convolution = filled(nn.Conv2d(3, 5, 3, padding=1))
    local = LocallyConnected(3, 5, 6, 3, 1)
    weight, bias = convolution.parameters()
    local.weight.data = weight.data.flatten(1).T.expand(36, -1, -1)
    local.bias.data = bias.data[:, None, None].expand(-1, 6, 6)
    x = random(2, 3, 6, 6)
    torch.testing.assert_close(local(x), convolution(x))


def test_towers_are_matrices_of_their_own() -> None:
    layer = filled(TowerLinear(6, 4, 2))
    x = random(5, 6)
    weight, bias = (p.detach().numpy() for p in layer.parameters())
    block = np.zeros((4, 6))
    block[:2, :3], block[2:, 3:] = weight
    expected = x.numpy() @ block.T + bias
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (LocallyConnected(2, 2, 3, 3, 1), (2, 2, 3, 3)),
        (TowerLinear(6, 4, 2), (3, 6)),
        (OverhangConv2d(1, 2, 3, stride=2), (2, 1, 6, 6)),
    ],
)
def test_gradients_are_those_of_finite_differences(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    filled(layer)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        result: Tensor = torch.func.functional_call(layer, given, (x,))
        return result

    x = random(*shape).requires_grad_()
    assert torch.autograd.gradcheck(run, (x, *layer.parameters()), fast_mode=True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_either_memory_layout_and_an_empty_batch_pass(layout: torch.memory_format) -> None:
    layer = filled(LocallyConnected(4, 3, 5, 3, 1))
    x = random(2, 4, 5, 5)
    torch.testing.assert_close(layer(x.to(memory_format=layout)), layer(x))
    assert layer(x[:0]).shape == (0, 3, 5, 5)
    assert filled(TowerLinear(6, 4, 2))(random(0, 6)).shape == (0, 4)


def test_the_layers_show_their_sizes() -> None:
    assert repr(LocallyConnected(2, 3, 4, 3, 1)) == (
        "LocallyConnected(18 inputs, 3 maps, 16 positions, padding=1)"
    )
    assert repr(TowerLinear(6, 4, 2)) == "TowerLinear(2 towers of 3 inputs and 2 units)"


def test_a_batch_norm_that_learns_nothing_standardises_and_keeps_averages_only() -> None:
    layer = GlobalBatchNorm(3, learns=False)
    x = (random(4, 3, 5, 5) * 7 + 2).float()
    assert not list(layer.parameters())
    assert set(layer.state_dict()) == {"running_mean", "running_var"}
    values = x.double().numpy()
    mean, var = values.mean((0, 2, 3)), values.var((0, 2, 3))
    expected = (values - mean[:, None, None]) / np.sqrt(var + 1e-4)[:, None, None]
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * mean, rtol=1e-5)
