import time
from pathlib import Path

import pytest

from alexnet.inference.decoding import decoded_blocks
from alexnet.inference.inputs import find_parts
from preprocessing.dataset.pixels import Pixels


def test_an_error_ends_the_decoding_ahead(tmp_path: Path) -> None:
    """Where a place is away, each image that is asked for ahead would wait for it once more."""
    for number in range(128):
        (tmp_path / f"{number:03}.jpg").write_bytes(b"%d" % number)
    begun: list[bytes] = []

    def decode(body: bytes) -> Pixels:
        begun.append(body)
        if body == b"0":
            raise MemoryError
        time.sleep(0.05)
        raise AssertionError

    with pytest.raises(MemoryError):
        list(decoded_blocks(find_parts([str(tmp_path)]), decode, num_threads=2))
    assert len(begun) < 64
