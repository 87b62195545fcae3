"""Whether the nodes that have GPUs can compute on them."""

from typing import Final

import torch

from infra.errors import ServiceError
from infra.nodes import ask_every_node
from infra.ray_runtime import this_nodes_gpus

IMPORT_S: Final = 180.0
"""How long a node may take to load torch, from a disk that all load it from."""


def check_nodes_use_gpus() -> None:
    """Have every node with GPUs say whether its torch was built for them; Ray must be up.

    Else it would look like a crash of its workers, or like nodes that do not reach each other.

    Raises:
        ServiceError: names a node whose torch was not, or that does not answer.
    """
    for address, fault in ask_every_node(_fault, timeout_s=IMPORT_S):
        if fault is not None:
            raise ServiceError(
                f"node {address} {fault}",
                remedy="install a build of torch for GPUs there, the same on every node (`make"
                " setup` takes one where it finds nvidia-smi), and start its Ray again; or start it"
                " without GPUs (CUDA_VISIBLE_DEVICES='') to train on CPUs",
            )


def _fault() -> str | None:
    """Say that this node has GPUs which its torch cannot use."""
    gpus = this_nodes_gpus()
    if not gpus or torch.version.cuda is not None or torch.version.hip is not None:
        return None
    return f"has {gpus:g} GPU(s), and its torch {torch.__version__} was built for CPUs"
