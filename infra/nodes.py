"""Whether every node of a cluster can work: it has our code, and sees what the others see."""

import secrets
from collections.abc import Callable
from typing import Final, TypeVar

from infra.errors import ProjectError, ServiceError, StoreError
from infra.ray_runtime import NODE_ANSWER_S, on_every_node
from infra.store import ObjectStore, open_store
from infra.store.scratch import scratch_place

Answer = TypeVar("Answer")

ANSWER_S: Final = 15.0
"""How long a node tries to read a store."""


def check_nodes_share(workspace: ObjectStore) -> None:
    """Have every node read back an object of the workspace, and write one; Ray must be up.

    Raises:
        StoreError: a node cannot: another disk, no credentials, no way to the store.
        ServiceError: a node does not answer, or cannot run our code.
    """
    token = secrets.token_hex(16).encode()
    with scratch_place(workspace, "node-check") as place:
        place.write("token", token)
        _refuse_unless_all(ask_every_node(_shares, place.uri, token), f"{place.uri}/token")


def check_nodes_see(store: ObjectStore, key: str) -> None:
    """Look at an object from every node; Ray must be up.

    Raises:
        StoreError, ServiceError: as `check_nodes_share`.
    """
    _refuse_unless_all(ask_every_node(_sees, store.uri, key), f"{store.uri}/{key}")


def ask_every_node(
    work: Callable[..., Answer], *arguments: object, timeout_s: float = NODE_ANSWER_S
) -> list[tuple[str, Answer]]:
    """Run a function on every node; return each node's address and answer. Ray must be up.

    Raises:
        StoreError, ServiceError: as `check_nodes_share`, or what the function raised.
    """
    answers: list[tuple[str, Answer]] = []
    for address, found in on_every_node(work, *arguments, timeout_s=timeout_s):
        if isinstance(found, ProjectError):
            raise StoreError(f"node {address}: {found.problem}", remedy=found.remedy) from found
        if isinstance(found, TimeoutError):
            raise ServiceError(
                f"node {address} does not answer: {found}",
                remedy="see whether it is alive and has memory left (`ray status`)",
            ) from found
        if isinstance(found, Exception):
            raise ServiceError(
                f"node {address} cannot run our code: {_last_line(found)}",
                remedy="install this package and the versions of constraints.txt in the Python that"
                " `ray start` ran from, on every node, or submit with --working-dir",
            ) from found
        answers.append((address, found))
    return answers


def _refuse_unless_all(answers: list[tuple[str, bool]], what: str) -> None:
    for address, found in answers:
        if not found:
            raise StoreError(
                f"node {address} does not see {what}, which this one sees",
                remedy="check AWS_ENDPOINT_URL there: the nodes ask different stores"
                if "://" in what
                else "name a directory that all nodes share, or a place in S3 (s3://…)",
            )


def _shares(uri: str, token: bytes) -> bool:
    place = open_store(uri).with_deadline(ANSWER_S)
    try:
        found = place.read("token")
    except FileNotFoundError:
        return False
    if found == token:
        place.write(secrets.token_hex(8), b"")
    return found == token


def _sees(uri: str, key: str) -> bool:
    return open_store(uri).with_deadline(ANSWER_S).stat(key) is not None


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
