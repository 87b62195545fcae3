"""One way to write a value as JSON, and its digest: the base of every key and receipt."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:  # noqa: ANN401 - JSON is any value, recursively
    """Write plain data as JSON in the one form that digests are taken of.

    Sorted keys, no spaces, shortest floats, UTF-8; NaN and infinities are refused (ValueError).
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def digest_of(value: Any) -> str:  # noqa: ANN401 - JSON is any value, recursively
    """Hex SHA-256 of the canonical JSON of plain data."""
    return sha256_hex(canonical_json(value))


def sha256_hex(body: bytes | memoryview) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(body).hexdigest()
