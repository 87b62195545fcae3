import importlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from alexnet.model import (
    LocalResponseNorm,
    ModelError,
    SameMapNorm,
    local_response_norm,
    same_map_norm,
)

Array = npt.NDArray[np.float64]
# The package's own name of that kind is the function.
module = importlib.import_module("alexnet.model.local_response_norm")


def window(index: int, size: int, length: int) -> range:
    return range(max(0, index - size // 2), min(length, index - size // 2 + size))


def across_maps(a: Array, *, size: int, towers: int) -> tuple[Array, float]:
    """The squares each bracket sums, map by map as the definition has it, and the divisor."""
    per_tower = a.shape[1] // towers
    sums = np.zeros_like(a)
    for i in range(a.shape[1]):
        first = i - i % per_tower
        for j in window(i - first, size, per_tower):
            sums[:, i] += a[:, first + j] ** 2
    return sums, size


def within_map(a: Array, *, size: int) -> tuple[Array, float]:
    sums = np.zeros_like(a)
    for y in range(a.shape[2]):
        for x in range(a.shape[3]):
            for v in window(y, size, a.shape[2]):
                for u in window(x, size, a.shape[3]):
                    sums[:, :, y, x] += a[:, :, v, u] ** 2
    return sums, size**2


def random_maps(*shape: int, std: float = 100.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * std


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("towers", [1, 2])
def test_the_cross_map_norm_is_the_definition(size: int, towers: int) -> None:
    maps = random_maps(2, 12, 3, 4)
    sums, divisor = across_maps(maps.double().numpy(), size=size, towers=towers)
    expected = maps.double().numpy() * (2 + 0.01 / divisor * sums) ** -0.75
    result = local_response_norm(maps, size=size, scale=0.01, towers=towers)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_the_same_map_norm_is_the_definition(size: int) -> None:
    maps = random_maps(2, 3, 6, 7)
    sums, divisor = within_map(maps.double().numpy(), size=size)
    expected = maps.double().numpy() * (1 + 0.01 / divisor * sums) ** -0.75
    result = same_map_norm(maps, size=size, scale=0.01)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5)


def test_another_power_is_the_definition_too() -> None:
    maps = random_maps(2, 6, 3, 3)
    sums, divisor = across_maps(maps.double().numpy(), size=5, towers=1)
    expected = maps.double().numpy() * (1.5 + 0.01 / divisor * sums) ** -0.5
    result = local_response_norm(maps, scale=0.01, power=0.5, constant=1.5)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("power", [0.75, 0.5])
def test_gradients_are_those_of_finite_differences(size: int, power: float) -> None:
    maps = random_maps(2, 6, 4, 3, std=2.0).double().requires_grad_()

    def cross(a: Tensor) -> Tensor:
        return local_response_norm(a, size=size, scale=0.5, power=power, towers=2)

    def same(a: Tensor) -> Tensor:
        return same_map_norm(a, size=size, scale=0.5, power=power)

    assert torch.autograd.gradcheck(cross, (maps,))
    assert torch.autograd.gradcheck(same, (maps,))


def slow_gradient(
    a: Array, incoming: Array, windows: list[list[int]], c: float, constant: float, power: float
) -> Array:
    """Section 3's formula, unit by unit; `a` and `incoming` are flat, windows by unit."""
    brackets = np.array([constant + c * (a[w] ** 2).sum() for w in windows])
    gradient = incoming * brackets**-power
    for j, seen in enumerate(windows):
        for i in seen:
            share = 2 * power * c * a[i] * incoming[j] * a[j]
            gradient[i] -= share * brackets[j] ** (-power - 1)
    return gradient


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_gradients_in_float32_are_the_definitions(size: int) -> None:
    """Of strong responses, so that every term counts; even windows are not symmetric."""
    maps = random_maps(1, 12, 1, 1).requires_grad_()
    incoming = random_maps(1, 12, 1, 1, std=1.0).flip(1)
    ours = local_response_norm(maps, size=size, scale=0.01, towers=2)
    (gradient,) = torch.autograd.grad(ours, maps, incoming)
    flat, flat_incoming = (x.detach().double().numpy().ravel() for x in (maps, incoming))
    windows = [[i - i % 6 + j for j in window(i % 6, size, 6)] for i in range(12)]
    expected = slow_gradient(flat, flat_incoming, windows, 0.01 / size, 2.0, 0.75)
    np.testing.assert_allclose(gradient.numpy().ravel(), expected, rtol=1e-5, atol=1e-6)

    square = random_maps(1, 1, 6, 6).requires_grad_()
    incoming = random_maps(1, 1, 6, 6, std=1.0).flip(2)
    ours = same_map_norm(square, size=size, scale=0.01)
    (gradient,) = torch.autograd.grad(ours, square, incoming)
    flat, flat_incoming = (x.detach().double().numpy().ravel() for x in (square, incoming))
    windows = [
        [6 * v + u for v in window(y, size, 6) for u in window(x, size, 6)]
        for y, x in np.ndindex(6, 6)
    ]
    expected = slow_gradient(flat, flat_incoming, windows, 0.01 / size**2, 1.0, 0.75)
    np.testing.assert_allclose(gradient.numpy().ravel(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_value_gradient_and_layout_agree_with_torch_per_tower(layout: torch.memory_format) -> None:
    maps = random_maps(3, 32, 5, 6).to(memory_format=layout).requires_grad_()
    incoming = random_maps(3, 32, 5, 6, std=1.0).to(memory_format=layout)
    torchs = torch.nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)
    theirs = torch.cat([torchs(tower) for tower in maps.chunk(2, dim=1)], dim=1)
    ours = local_response_norm(maps, towers=2)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    (their_gradient,) = torch.autograd.grad(theirs, maps, incoming)
    (our_gradient,) = torch.autograd.grad(ours, maps, incoming)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-5, atol=1e-6)
    assert ours.is_contiguous(memory_format=layout)
    assert our_gradient.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_same_map_norm_agrees_with_an_average_pool(layout: torch.memory_format) -> None:
    maps = random_maps(3, 8, 9, 7).to(memory_format=layout).requires_grad_()
    sums = 25 * torch.nn.functional.avg_pool2d(maps * maps, 5, stride=1, padding=2)
    theirs = maps * (1 + 4e-5 * sums) ** -0.75
    ours = same_map_norm(maps)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    (their_gradient,) = torch.autograd.grad(theirs.sum(), maps)
    (our_gradient,) = torch.autograd.grad(ours.sum(), maps)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-5, atol=1e-6)
    assert ours.is_contiguous(memory_format=layout)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("norm", [partial(local_response_norm, towers=2), same_map_norm])
@pytest.mark.parametrize("shape", [(7, 6, 5, 3), (5, 16, 7, 7), (3, 2, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_give_the_same_bits_and_layout_as_the_whole(
    monkeypatch: pytest.MonkeyPatch,
    layout: torch.memory_format,
    norm: Callable[..., Tensor],
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> None:
    maps = random_maps(*shape).to(dtype).contiguous(memory_format=layout).requires_grad_()
    incoming = random_maps(*shape, std=1.0).to(dtype).contiguous(memory_format=layout)
    found, calls = [], []
    window_sum = module._window_sum

    def counted(*arguments: Any) -> Tensor:
        calls[-1] += 1
        return window_sum(*arguments)

    monkeypatch.setattr(module, "_window_sum", counted)
    for part in (2**30, 2 * maps[0].numel()):
        monkeypatch.setattr(module, "PART", part)
        calls.append(0)
        result = norm(maps)
        (gradient,) = torch.autograd.grad(result, maps, incoming)
        found.append((result, gradient))
    assert calls == [2, 2 * math.ceil(len(maps) / 2)]
    for whole, parts in zip(*found, strict=True):
        assert torch.equal(whole, parts)
        assert whole.stride() == parts.stride()
        assert whole.dtype == parts.dtype == dtype


def test_worked_numbers_of_the_cross_map_norm() -> None:
    damped = local_response_norm(torch.full((1, 5, 1, 1), 100.0)) / 100
    assert damped[0, 2, 0, 0].item() == pytest.approx(0.438691, abs=1e-6)
    assert damped[0, 0, 0, 0].item() == pytest.approx(0.488394, abs=1e-6)
    alone = local_response_norm(torch.full((1, 1, 1, 1), 1e-3)) / 1e-3
    assert alone.item() == pytest.approx(0.594604, abs=1e-6)


def test_worked_numbers_of_the_same_map_norm() -> None:
    damped = same_map_norm(torch.full((1, 1, 7, 7), 10.0)) / 10
    assert damped[0, 0, 3, 3].item() == pytest.approx(0.931012, abs=1e-6)
    assert damped[0, 0, 0, 0].item() == pytest.approx(0.973823, abs=1e-6)
    assert damped[0, 0, 6, 6].item() == pytest.approx(0.973823, abs=1e-6)
    alone = same_map_norm(torch.full((1, 1, 1, 1), 1e-3)) / 1e-3
    assert alone.item() == pytest.approx(1.0, abs=1e-6)


def test_windows_stop_at_the_border_of_a_tower() -> None:
    maps = random_maps(1, 96, 2, 2)
    louder = maps.clone()
    louder[:, 48:] *= 10
    before = local_response_norm(maps, towers=2)
    after = local_response_norm(louder, towers=2)
    assert torch.equal(before[:, :48], after[:, :48])
    leaking = local_response_norm(louder) != local_response_norm(maps)
    assert leaking[0, 46:48].all()
    assert not leaking[0, :46].any()


def test_sums_run_in_float32_for_bfloat16() -> None:
    maps = random_maps(2, 8, 3, 3).bfloat16().requires_grad_()
    for norm in (local_response_norm, same_map_norm):
        result = norm(maps)
        exact = norm(maps.float())
        assert result.dtype == torch.bfloat16
        assert torch.equal(result, exact.bfloat16())
        (gradient,) = torch.autograd.grad(result.sum(), maps)
        assert gradient.dtype == torch.bfloat16
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(norm(maps.float()), exact)


@pytest.mark.parametrize("norm", [local_response_norm, same_map_norm])
def test_an_empty_batch_passes_both_ways(norm: Callable[..., Tensor]) -> None:
    maps = torch.zeros(0, 6, 4, 4, requires_grad=True)
    result = norm(maps)
    result.sum().backward()
    assert result.shape == (0, 6, 4, 4)
    assert maps.grad is not None
    assert maps.grad.shape == (0, 6, 4, 4)


def test_nothing_is_recorded_without_gradients() -> None:
    maps = random_maps(1, 6, 4, 4).requires_grad_()
    with torch.no_grad():
        assert not local_response_norm(maps).requires_grad
    assert torch.equal(local_response_norm(maps.detach()), local_response_norm(maps))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 5, 5), {}, "batch, channel, height, width"),
        ((1, 6, 5, 5), {"towers": 4}, "6 channels do not split into 4 towers"),
        ((1, 6, 5, 5), {"size": 0}, "window size is 0"),
    ],
)
def test_what_cannot_be_normalised_is_refused(
    shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        local_response_norm(torch.zeros(shape), **options)


def test_the_layers_apply_their_own_constants_and_show_them() -> None:
    maps = random_maps(1, 8, 6, 6)
    cross = LocalResponseNorm(3, 1e-2, 0.5, 1.0, towers=2)
    expected = local_response_norm(maps, size=3, scale=1e-2, power=0.5, constant=1.0, towers=2)
    assert torch.equal(cross(maps), expected)
    same = SameMapNorm(3, 1e-2, 0.5, 2.0)
    expected = same_map_norm(maps, size=3, scale=1e-2, power=0.5, constant=2.0)
    assert torch.equal(same(maps), expected)
    assert repr(cross) == (
        "LocalResponseNorm(size=3, scale=0.01, power=0.5, constant=1.0, towers=2)"
    )
    assert repr(same) == "SameMapNorm(size=3, scale=0.01, power=0.5, constant=2.0)"
