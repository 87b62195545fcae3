"""The workers' process group, on the network that their nodes are known by.

gloo and NCCL look for an interface by themselves: gloo takes the one that the host's name resolves
to, which is often 127.0.0.1, and then no worker finds another.
"""

import os
from dataclasses import dataclass
from typing import Any

import psutil
import ray.util
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend


def use_the_nodes_interface() -> None:
    """Have torch.distributed use the interface of the node's address in Ray, in this process.

    What is set in the environment already stays.
    """
    ours = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == ours for address in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


@dataclass
class NodesNetwork(TorchConfig):  # type: ignore[misc]  # Ray ships no types
    """Ray Train's settings of torch.distributed, with each worker on its node's interface."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """Return what sets the workers up."""
        return _Backend


class _Backend(_TorchBackend):  # type: ignore[misc]  # as above
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:  # noqa: ANN401
        worker_group.execute(use_the_nodes_interface)
        super().on_start(worker_group, backend_config)
