"""Random numbers as a pure function of (seed, purpose, epoch, sample): no state, no order, no rank.

Everything random about a sample is drawn here, so a crop or a dropout mask does not depend on which
worker drew it, how many workers there are, or whether the run was restarted. `counter_rng_torch`
computes the same bits on the device.

Source: the SplitMix64 finaliser of Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]

GOLDEN: Final = 0x9E3779B97F4A7C15
MIX_1: Final = 0xBF58476D1CE4E5B9
MIX_2: Final = 0x94D049BB133111EB


def stream_key(seed: int, purpose: str, *counters: int) -> int:
    """Name one stream: 64 bits from a seed, what it is for, and counters such as the epoch.

    Hashed, so that neighbouring seeds, epochs or purposes share nothing.
    """
    words = [str(seed), purpose, *map(str, counters)]
    return int.from_bytes(hashlib.sha256("/".join(words).encode()).digest()[:8], "little")


def keys_of(stream: int, ids: npt.NDArray[np.int64]) -> Keys:
    """Return one key per id (a sample id, say), shape (n,): what the draws below start from."""
    return _mix(_mix(ids.astype(np.uint64)) ^ np.uint64(stream))


def draw_bits(keys: Keys, count: int) -> Keys:
    """Draw 64 random bits for each key, `count` times: shape (n, count)."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    return _mix(keys[:, None] + steps[None, :])


def draw_uniform(keys: Keys, count: int) -> npt.NDArray[np.float64]:
    """Draw `count` numbers in [0, 1) for each key, from the upper 53 bits: shape (n, count)."""
    bits = (draw_bits(keys, count) >> np.uint64(11)).astype(np.float64)
    uniform: npt.NDArray[np.float64] = bits * 2.0**-53
    return uniform


def permutation(n: int, stream: int) -> npt.NDArray[np.int64]:
    """Return a permutation of 0..n-1, fixed for ever by the stream (numpy's own may change)."""
    keys = keys_of(stream, np.arange(n, dtype=np.int64))
    return np.argsort(keys, kind="stable").astype(np.int64)


def permutations(sizes: npt.NDArray[np.int64], streams: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return `permutation(size, stream)` of each pair, one after the other: (sum of sizes,)."""
    which = np.repeat(np.arange(len(sizes)), sizes)
    index = np.arange(len(which)) - (np.cumsum(sizes) - sizes)[which]
    keys = _mix(_mix(index.astype(np.uint64)) ^ np.array(streams, np.uint64)[which])
    return index[np.lexsort((keys, which))]


def _mix(z: Keys) -> Keys:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX_1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_2)
    mixed: Keys = z ^ (z >> np.uint64(31))
    return mixed
