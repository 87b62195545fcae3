"""Whether every node of a cluster can work: it has our code, and sees what the others see."""

import secrets

from infra.errors import ProjectError, ServiceError, StoreError
from infra.ray_runtime import on_every_node
from infra.store import ObjectStore, is_remote, open_store

ANSWER_S = 15.0
"""How long a node tries to read a store."""


def check_nodes_share(workspace: ObjectStore) -> None:
    """Write an object in a workspace and have it read back on every node; Ray must be up.

    Raises:
        StoreError: a node does not see it: another disk, no credentials, no way to the store.
        ServiceError: a node cannot run our code.
    """
    key, token = f"node-check-{secrets.token_hex(4)}", secrets.token_hex(16).encode()
    workspace.write(key, token)
    try:
        check_nodes_see(workspace, key)
    finally:
        workspace.delete(key)


def check_nodes_see(store: ObjectStore, key: str) -> None:
    """Look at an object from every node; Ray must be up.

    Raises:
        StoreError, ServiceError: as `check_nodes_share`.
    """
    for address, found in on_every_node(_sees, store.uri, key).items():
        if isinstance(found, ProjectError):
            raise StoreError(f"node {address}: {found.problem}", remedy=found.remedy) from found
        if isinstance(found, Exception):
            raise ServiceError(
                f"node {address} cannot run our code: {_last_line(found)}",
                remedy="install this package and the versions of constraints.txt in the Python that"
                " `ray start` ran from, on every node, or submit with --working-dir",
            ) from found
        if not found:
            raise StoreError(
                f"node {address} does not see {store.uri}/{key}, which this one sees",
                remedy="name a directory that all nodes share, or a place in S3 (s3://…)"
                if not is_remote(store)
                else "check AWS_ENDPOINT_URL there: the nodes ask different stores",
            )


def _sees(uri: str, key: str) -> bool:
    return open_store(uri).with_deadline(ANSWER_S).stat(key) is not None


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
