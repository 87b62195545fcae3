"""torch.compile of a network, held against the network itself before anything is trained.

A compiler can be wrong in silence: torch 2.13's gave convolutions gradients of exactly zero where
it chose the memory format itself (docs/experiments.md). Here it does not choose, and the gradients
of a few drawn images decide, under weights with which no layer is nearly the identity.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn

from alexnet.model.check_gradients import spread_signals
from alexnet.settings import Precision
from alexnet.train.precision import forward_in, multiplying_in
from infra.errors import RecipeError

SIZES: Final = (4, 6)
"""Images of the batches that are compared. What is compiled for the first is told to hold for any
number but 0 and 1, and trains: the second shows that it does."""
MIN_COMPILED_ROWS: Final = 2
"""Fewest images that a compiled network is called with: torch's compiler treats batches of 0 and
1 as special cases."""
TOLERANCES: Final[dict[Precision, float]] = {"fp32": 0.01, "tf32": 0.01, "bf16": 0.1}
"""Of a parameter's gradient, relative: sums in another order, and maxima that they turn over."""
NEGLIGIBLE: Final = 1e-3
"""Of the whole gradient: a bias before a batch norm has none but rounding."""
COMPILE_OPTIONS: Final[dict[str, str | int | bool]] = {"layout_optimization": False}
"""Of Inductor."""


def compile_network(network: nn.Module, image_px: int, precision: Precision = "fp32") -> None:
    """Compile a network in place, and check its gradients; parameters and buffers stay.

    With fewer than MIN_COMPILED_ROWS images it has to be called under
    `torch.compiler.set_stance("force_eager")`, as `train_step` does: else it is compiled anew then.

    Args:
        network: on its device, in its memory format; called as `network(images, sample_keys)`.
        image_px: side of the square images.
        precision: in which its steps are taken.

    Raises:
        RecipeError: it cannot be compiled here, or the compiled network computes something else.
    """
    was_training, before = network.training, _copy(network)
    network.train()
    # It would cut the network where DDP's buckets end: another one than is held to account here.
    torch._dynamo.config.optimize_ddp = False
    try:
        spread_signals(network, *_draw(network, SIZES[0], image_px))
        own = [_gradients(network, size, image_px, precision) for size in SIZES]
        network.compile(options=COMPILE_OPTIONS)
        compiled = _compiled_gradients(network, image_px, precision)
    finally:
        _restore(network, before)
        network.zero_grad(set_to_none=True)
        network.train(was_training)
    for one, other in zip(own, compiled, strict=True):
        _refuse_others(one, other, TOLERANCES[precision])


def _compiled_gradients(
    network: nn.Module, image_px: int, precision: Precision
) -> list[dict[str, Tensor]]:
    from torch._dynamo.exc import TorchDynamoException

    try:
        return [_gradients(network, size, image_px, precision) for size in SIZES]
    except TorchDynamoException as error:  # anything else is a fault of another kind
        # What is missing (a C++ compiler, Triton) stands in the first line, torch's advice below.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RecipeError(
            f"torch.compile failed: {reason}",
            remedy="install a C++ compiler on every node (g++), or set scaling.compile to false",
        ) from error


def _gradients(
    network: nn.Module, size: int, image_px: int, precision: Precision
) -> dict[str, Tensor]:
    """Return every parameter's gradient on drawn images, always the same."""
    images, keys = _draw(network, size, image_px)
    network.zero_grad(set_to_none=True)
    with multiplying_in(precision):
        with forward_in(precision, images.device):
            logits: Tensor = network(images, keys)
        logits = logits.float()
        draw = torch.Generator().manual_seed(0)
        weights = torch.randn(logits.shape, generator=draw).to(images.device)
        (torch.log_softmax(logits, dim=1) * weights).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in network.named_parameters()
    }


def _draw(network: nn.Module, size: int, image_px: int) -> tuple[Tensor, Tensor]:
    """Draw images and keys, both marked as being of any number."""
    device = next(network.parameters()).device
    draw = torch.Generator().manual_seed(size)
    images = torch.randn(size, 3, image_px, image_px, generator=draw).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    keys = torch.arange(size, device=device)
    for inputs in (images, keys):
        torch._dynamo.maybe_mark_dynamic(inputs, 0)
    return images, keys


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters()) | dict(network.named_buffers())


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in _tensors(network).items()}


@torch.no_grad()
def _restore(network: nn.Module, before: dict[str, Tensor]) -> None:
    for name, tensor in _tensors(network).items():
        tensor.copy_(before[name])


def _refuse_others(own: dict[str, Tensor], compiled: dict[str, Tensor], tolerance: float) -> None:
    least = NEGLIGIBLE * torch.stack([gradient.norm() for gradient in own.values()]).norm()
    off = {
        name: float((compiled[name] - gradient).norm() / torch.maximum(gradient.norm(), least))
        for name, gradient in own.items()
    }
    name = max(off, key=lambda name: math.inf if math.isnan(off[name]) else off[name])
    if not off[name] <= tolerance:
        raise RecipeError(
            f"compiled by torch {torch.__version__}, the network computes something else:"
            f" the gradient of {name} differs by {off[name]:.0%}",
            remedy="set scaling.compile to false",
        )
