import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alexnet import counter_rng, counter_rng_torch

STREAM = counter_rng.stream_key(0, "test", 3)

# Whoever changes these changes every order, crop, flip, noise and dropout mask there ever was: no
# run can be repeated or resumed across the change, and no two runs compared image by image.
PINNED_STREAM = 0x5F84F845A68565F6
PINNED_KEYS = [4424890860870396918, 10210001579427907168, 7812460511663852905]
PINNED_BITS = [
    [2653977823744677017, 1147588217160616062],
    [16804398879064519997, 10173453161425560188],
]
PINNED_PERMUTATION = [7, 0, 6, 9, 4, 2, 1, 3, 8, 5]


def _ids(n: int) -> npt.NDArray[np.int64]:
    return np.arange(n, dtype=np.int64)


def test_values_are_pinned() -> None:
    assert STREAM == PINNED_STREAM
    keys = counter_rng.keys_of(STREAM, _ids(3))
    assert keys.tolist() == PINNED_KEYS
    assert counter_rng.draw_bits(keys[:2], 2).tolist() == PINNED_BITS
    assert counter_rng.permutation(10, STREAM).tolist() == PINNED_PERMUTATION


def test_mix_is_the_published_splitmix64() -> None:
    # The reference generator's first three outputs from state 1234567.
    bits = counter_rng.draw_bits(np.array([1234567], dtype=np.uint64), 3)
    assert bits.tolist() == [[6457827717110365317, 3203168211198807973, 9817491932198370423]]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=8), st.integers(0, 5))
def test_both_machines_draw_the_same_bits(words: list[int], count: int) -> None:
    keys = np.array(words, dtype=np.uint64)
    on_device = counter_rng_torch.draw_bits(counter_rng_torch.keys_to_tensor(keys), count)
    ours = counter_rng.draw_bits(keys, count)
    assert np.array_equal(on_device.numpy().view(np.uint64), ours)


def test_torch_uniform_is_the_upper_24_bits_of_numpys() -> None:
    keys = counter_rng.keys_of(STREAM, _ids(1000))
    single = counter_rng_torch.draw_uniform(counter_rng_torch.keys_to_tensor(keys), 4)
    double = counter_rng.draw_uniform(keys, 4)
    assert single.dtype == torch.float32
    assert np.array_equal(single.numpy(), np.floor(double * 2**24) / 2**24)


@given(st.integers(0, 300), st.integers(0, 2**64 - 1))
def test_a_permutation_holds_each_number_once(n: int, stream: int) -> None:
    assert sorted(counter_rng.permutation(n, stream).tolist()) == list(range(n))


@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 2**64 - 1)), min_size=1, max_size=9))
def test_many_permutations_at_once_are_those_one_by_one(asked: list[tuple[int, int]]) -> None:
    sizes, streams = zip(*asked, strict=True)
    together = counter_rng.permutations(np.array(sizes, np.int64), streams)
    assert together.dtype == np.int64
    apart = [counter_rng.permutation(n, stream) for n, stream in asked]
    assert together.tolist() == np.concatenate(apart).tolist()


def test_seed_purpose_and_counters_all_name_another_stream() -> None:
    streams = {
        counter_rng.stream_key(0, "a", 1),
        counter_rng.stream_key(1, "a", 1),
        counter_rng.stream_key(0, "b", 1),
        counter_rng.stream_key(0, "a", 2),
        counter_rng.stream_key(0, "a", 1, 0),
    }
    assert len(streams) == 5


@pytest.mark.parametrize("column", [0, 1])
def test_uniform_fills_the_unit_interval_evenly(column: int) -> None:
    n, bins = 100_000, 100
    drawn = counter_rng.draw_uniform(counter_rng.keys_of(STREAM, _ids(n)), 2)[:, column]
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.bincount((drawn * bins).astype(np.int64), minlength=bins)
    chi_square = float(((counts - n / bins) ** 2 / (n / bins)).sum())
    assert 50 < chi_square < 160  # 99 degrees of freedom: mean 99, deviation 14


def test_neighbouring_draws_and_neighbouring_ids_do_not_follow_each_other() -> None:
    drawn = counter_rng.draw_uniform(counter_rng.keys_of(STREAM, _ids(100_000)), 2)
    first, second = drawn[:, 0], drawn[:, 1]
    # The standard error of a correlation of 100,000 pairs is 0.003.
    assert abs(float(np.corrcoef(first, second)[0, 1])) < 0.015
    assert abs(float(np.corrcoef(first[:-1], first[1:])[0, 1])) < 0.015


def test_normal_numbers_have_mean_zero_and_variance_one() -> None:
    keys = counter_rng_torch.keys_to_tensor(counter_rng.keys_of(STREAM, _ids(100_000)))
    drawn = counter_rng_torch.draw_normal(keys, 3)
    assert drawn.shape == (100_000, 3)
    assert torch.isfinite(drawn).all()
    assert torch.allclose(drawn.mean(dim=0), torch.zeros(3), atol=0.015)
    assert torch.allclose(drawn.T.cov(), torch.eye(3), atol=0.025)
    assert float((drawn.abs() > 2).float().mean()) == pytest.approx(0.0455, abs=0.003)
