"""Weight layers that torch lacks: windows past the edge, weights by position, towers kept apart."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.model.sizes import ceil_windows


class OverhangConv2d(nn.Conv2d):
    """A convolution whose last windows may overhang the image; what is outside counts as zero.

    Source:
        The release's size rule, `LocalLayerParser.parse` in `layer.py`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return (batch, maps, rows, columns) of a square (batch, channels, side, side)."""
        padded = input.shape[-1] + 2 * int(self.padding[0])
        window, stride = self.kernel_size[0], self.stride[0]
        overhang = stride * (ceil_windows(padded, window, stride) - 1) + window - padded
        return super().forward(functional.pad(input, (0, overhang, 0, overhang)))


class LocallyConnected(nn.Module):
    """A convolution with weights and biases of its own at every output position, stride 1.

    `weight` is (positions, channels * window * window, maps), positions row by row and a window's
    inputs by (channel, y, x); `bias` is (maps, side, side). Both start as zeros.

    Args:
        channels: of the input.
        maps: of the output.
        side: of the square input, in pixels.
        window: side of the windows, in pixels.
        padding: zeros on each side of the image.

    Source:
        The layer type `local` of cuda-convnet.
    """

    def __init__(self, channels: int, maps: int, side: int, window: int, padding: int) -> None:
        super().__init__()
        self.window = window
        self.padding = padding
        self.side = side + 2 * padding - window + 1
        positions = self.side**2
        self.weight = nn.Parameter(torch.zeros(positions, channels * window**2, maps))
        self.bias = nn.Parameter(torch.zeros(maps, self.side, self.side))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, maps, side, side) of (batch, channels, input side, input side)."""
        windows = functional.unfold(x, self.window, padding=self.padding)
        products = torch.bmm(windows.permute(2, 0, 1), self.weight)  # positions x batch x maps
        return products.permute(1, 2, 0).reshape(-1, *self.bias.shape) + self.bias

    def extra_repr(self) -> str:
        """Show the sizes where a printed network lists its layers."""
        positions, inputs, maps = self.weight.shape
        return f"{inputs} inputs, {maps} maps, {positions} positions, padding={self.padding}"


class TowerLinear(nn.Module):
    """Each tower's units fully connected to that tower's inputs and to nothing else.

    `weight` is (towers, units, inputs) of one tower each, `bias` all units one tower after the
    other; both start as zeros.

    Args:
        inputs: of all towers together.
        units: of all towers together.
        towers: how many.
    """

    def __init__(self, inputs: int, units: int, towers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(towers, units // towers, inputs // towers))
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, units) of (batch, inputs), towers one after the other in both."""
        towers, _, inputs = self.weight.shape
        by_tower = x.view(-1, towers, inputs).transpose(0, 1)
        products = torch.bmm(by_tower, self.weight.transpose(1, 2))
        return products.transpose(0, 1).flatten(1) + self.bias

    def extra_repr(self) -> str:
        """Show the sizes where a printed network lists its layers."""
        towers, units, inputs = self.weight.shape
        return f"{towers} towers of {inputs} inputs and {units} units"
