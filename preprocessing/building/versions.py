"""The libraries that decide a shard's bytes: their versions here, where they should be others'."""

import socket
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Final

from infra.errors import ServiceError

_read_version: Final = cache(version)
"""Read once a process: a search of the disk takes a render task longer than an image."""


def encoder_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide a shard's bytes."""
    return {name: _read_version(name) for name in ("pillow", "pyarrow", "simplejpeg")}


def differing_versions(expected: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Name the libraries that differ, such as `pillow 12.1.0, here 13.0.0`; empty if none. Pure."""
    return "; ".join(
        f"{name} {expected.get(name, 'unknown')}, here {here.get(name, 'none')}"
        for name in sorted({*here, *expected})
        if here.get(name) != expected.get(name)
    )


def refuse_other_versions(expected: Mapping[str, str]) -> None:
    """Refuse to render where the libraries are not those that the whole build is made with.

    Raises:
        ServiceError: this machine has others.
    """
    if differing := differing_versions(expected, encoder_versions()):
        raise ServiceError(
            f"node {socket.gethostname()} would render other bytes: the command that builds has"
            f" {differing}",
            remedy="install the versions of constraints.txt in the Python that `ray start` ran"
            " from, on every node, then run again: it goes on",
        )
