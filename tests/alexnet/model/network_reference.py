"""The networks written out a second time, for tests: steps as words, towers computed apart."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

TWO_TOWER_PADS = {"conv2": 2, "conv3": 1, "conv4": 1, "conv5": 1, "conv6": 1}
CIFAR_PADS = {"conv1": 2, "conv2": 2, "conv3": 2, "local3": 1, "local4": 1}
MIDDLE = "conv3 relu conv4 relu"
HEAD = "fc6 relu half fc7 relu half fc8"

# Sections 2.2 to 2.7 of the specification, line by line.
STEPS = {
    "alexnet-2012-conv5-norm": (
        f"conv1 lrn max relu conv2 relu lrn within max {MIDDLE} conv5 lrn max relu {HEAD}"
    ),
    "alexnet-2012-no-block2-norm": (
        f"conv1 lrn max relu conv2 relu max {MIDDLE} conv5 max relu {HEAD}"
    ),
    "alexnet-2012-no-communication": (
        f"conv1 lrn max relu conv2 relu lrn within max {MIDDLE} conv5 max relu {HEAD}"
    ),
    "alexnet-2012-no-norm": f"conv1 max relu conv2 relu max {MIDDLE} conv5 max relu {HEAD}",
    "alexnet-2012-norm-before-relu": (
        f"conv1 lrn max relu conv2 lrn within max relu {MIDDLE} conv5 max relu {HEAD}"
    ),
    "alexnet-2012-one-column": (
        f"conv1 lrn max relu conv2 relu lrn within max {MIDDLE} conv5 max relu {HEAD}"
    ),
    "alexnet-2012-plain-pooling": (
        f"conv1 lrn max2 relu conv2 relu lrn within max2 {MIDDLE} conv5 max2 relu {HEAD}"
    ),
    "alexnet-2012-six-convs": (
        f"conv1 lrn max relu conv2 relu lrn within max {MIDDLE} conv5 max relu conv6 relu {HEAD}"
    ),
    "alexnet-bn-last": (
        "conv1 relu max bn1 conv2 relu max bn2 conv3 relu bn3 conv4 relu bn4 conv5 relu max"
        " fc6 relu fc7 relu fc8"
    ),
    "alexnet-one-tower": f"conv1 lrn max relu conv2 relu lrn max {MIDDLE} conv5 max relu {HEAD}",
    "alexnet-paper": (f"conv1 relu paper max conv2 relu paper max {MIDDLE} conv5 relu max {HEAD}"),
    "cifar-18pct": ("conv1 max relu within3 conv2 relu avg within3 conv3 relu avg fc10"),
    "cifar-80sec": "conv1 max relu conv2 relu avg conv3 relu avg fc64 relu fc10",
    "cifar-13pct": "conv1 relu max conv2 relu max local3 relu local4 relu fc10",
    "cifar-11pct": ("conv1 relu max lrn9 conv2 relu lrn9 max local3 relu local4 relu fc10"),
}
ONE_TOWER = {"alexnet-2012-one-column", "alexnet-one-tower"}


def written_out(name: str, state: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Evaluate the network in float64, from plain parts."""
    *_, logits = every_step(name, state, images)
    return logits


def every_step(name: str, state: Mapping[str, Tensor], images: Tensor) -> Iterator[Tensor]:
    """Yield what each of its STEPS gives."""
    pads = CIFAR_PADS if name.startswith("cifar") else TWO_TOWER_PADS
    if name == "alexnet-2012-plain-pooling":
        pads = pads | {"conv2": 1, "conv5": 0}
    single = name in ONE_TOWER or name.startswith("cifar")
    x = images.double()
    for step in STEPS[name].split():
        if step.startswith("conv"):
            stride = 4 if step == "conv1" and not name.startswith("cifar") else 1
            x = convolve(state, step, x, stride, pads.get(step, 0))
        elif step.startswith("local"):
            x = local(state[f"{step}.weight"], state[f"{step}.bias"], x, pads[step])
        elif step.startswith("fc"):
            x = connect(state[f"{step}.weight"].double(), state[f"{step}.bias"], x.flatten(1))
        elif step.startswith("bn"):
            norm = f"conv{step[2:]}_plainbatchnorm.running"
            mean, var = state[f"{norm}_mean"].double(), state[f"{norm}_var"].double()
            x = (x - mean.view(1, -1, 1, 1)) / (var + 1e-4).sqrt().view(1, -1, 1, 1)
        else:
            x = plain(step, x, towers=1 if single else 2)
        yield x


def convolve(state: Mapping[str, Tensor], name: str, x: Tensor, stride: int, pad: int) -> Tensor:
    """A layer whose unit sees fewer maps than there are sees its own tower's."""
    weight, bias = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
    # Zeros enough for any last window, then as many windows as the size rule counts.
    size = 1 + -((weight.shape[2] - x.shape[2] - 2 * pad) // stride)
    x = functional.pad(x, (pad, pad + stride, pad, pad + stride))
    groups = x.shape[1] // weight.shape[1]
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), bias.chunk(groups), strict=True)
    found = torch.cat([functional.conv2d(a, w, b, stride) for a, w, b in parts], 1)
    return found[:, :, :size, :size]


def connect(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    if weight.dim() == 3:
        apart = [a @ w.T for a, w in zip(x.chunk(2, 1), weight, strict=True)]
        return torch.cat(apart, 1) + bias
    return x @ weight.T + bias


def local(weight: Tensor, bias: Tensor, x: Tensor, pad: int) -> Tensor:
    """Place by place; weights are (places, channels * 3 * 3, maps)."""
    x = functional.pad(x, (pad, pad, pad, pad))
    out = torch.zeros(len(x), *bias.shape, dtype=torch.float64)
    for row in range(bias.shape[1]):
        for column in range(bias.shape[2]):
            window = x[:, :, row : row + 3, column : column + 3].flatten(1)
            out[:, :, row, column] = window @ weight[row * bias.shape[2] + column].double()
    return out + bias


def plain(step: str, x: Tensor, towers: int) -> Tensor:
    match step:
        case "relu":
            return x.clamp(min=0)
        case "half":
            return 0.5 * x
        case "max":
            return functional.max_pool2d(x, 3, 2, ceil_mode=True)
        case "max2":
            return functional.max_pool2d(x, 2, 2, ceil_mode=True)
        case "avg":
            return average(x)
        case "within":
            return x * (1 + 4e-5 * 25 * functional.avg_pool2d(x * x, 5, 1, 2)) ** -0.75
        case "within3":
            return x * (1 + 5e-5 * functional.avg_pool2d(x * x, 3, 1, 1)) ** -0.75
    constants = {
        "lrn": (5, 1e-4, 0.75, 2.0),
        "paper": (5, 5e-4, 0.75, 2.0),
        "lrn9": (9, 1e-3, 0.75, 1.0),
    }
    norm = nn.LocalResponseNorm(*constants[step])
    return torch.cat([norm(part) for part in x.chunk(towers, 1)], 1)


def average(x: Tensor) -> Tensor:
    """Windows of 3 x 3, stride 2, clipped: the mean of what is inside."""
    side = x.shape[2]
    starts = range(0, 2 * (1 + -((3 - side) // 2)), 2)
    rows = [
        torch.stack([x[:, :, r : r + 3, c : c + 3].mean((2, 3)) for c in starts], -1)
        for r in starts
    ]
    return torch.stack(rows, -2)
