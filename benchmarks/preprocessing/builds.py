"""`alexnet prepare` in a process of its own, and what is in the dataset that it made."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.store import ObjectStore, is_remote, open_store

UNUSED_SERVER: Final = "http://127.0.0.1:9"
"""A workspace in S3 wants to know where runs are tracked; prepare asks nothing of it."""
_RECEIPT: Final = re.compile(r"_build/(train|val)-(\d{5})\.json")
_NO_PRODUCT: Final = ("_build/", "lease/", "sources/")
"""What of a dataset's folder tells how it was made; two builds need not agree in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One command on one workspace."""

    workspace: str
    settings: tuple[str, ...]
    """Of `--set`."""
    workers: int

    def command(self) -> list[str]:
        """Return its words."""
        words = [str(Path(sys.executable).with_name("alexnet")), "prepare", "--json"]
        words += ["--workspace", self.workspace]
        if is_remote(open_store(self.workspace)):
            words += ["--tracking-uri", UNUSED_SERVER]
        settings = (*self.settings, f"prepare.parallelism={self.workers}")
        return words + [word for setting in settings for word in ("--set", setting)]

    def start(self) -> "subprocess.Popen[str]":
        """Start it; what it says is kept for `finish`."""
        return subprocess.Popen(
            self.command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ALEXNET_LOG": "WARNING"},
        )

    def run(self) -> dict[str, Any]:
        """Run it to its end and return the document it printed."""
        return finish(self.start())

    def dataset(self) -> ObjectStore | None:
        """Return the folder of the one dataset of the workspace, as soon as there is one."""
        store = open_store(self.workspace)
        for info in store.list("datasets/"):
            return store.child("/".join(info.key.split("/")[:2]))
        return None


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for a command and return its document.

    Raises:
        RuntimeError: it did not end well; with what it said.
    """
    out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"alexnet prepare ended with {process.returncode}: {err}")
    document: dict[str, Any] = json.loads(out)
    return document


def finished_shards(dataset: ObjectStore | None) -> dict[str, str]:
    """Return the versions of the shards that have a receipt, by path."""
    if dataset is None:
        return {}
    versions = {info.key: info.version for info in dataset.list()}
    # _build/train-00003.json is the receipt of train/part-00003-of-00009.parquet.
    receipts = [_RECEIPT.fullmatch(key) for key in versions]
    done = {f"{found[1]}/part-{found[2]}" for found in receipts if found}
    return {key: version for key, version in versions.items() if key.partition("-of-")[0] in done}


def product_digests(dataset: ObjectStore) -> dict[str, str]:
    """Return the SHA-256 of every file of a dataset that is the dataset."""
    keys = [info.key for info in dataset.list()]
    return {
        key: hashlib.sha256(dataset.read(key)).hexdigest()
        for key in keys
        if not key.startswith(_NO_PRODUCT)
    }


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Name the files that are not in both, or not the same."""
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
