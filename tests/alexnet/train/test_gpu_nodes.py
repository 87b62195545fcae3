from typing import Any

import pytest
import torch

from alexnet.train import gpu_nodes
from infra.errors import ServiceError


@pytest.mark.parametrize(
    ("gpus", "cuda", "expected"),
    [(2.0, None, "has 2 GPU(s), and its torch "), (2.0, "13.0", None), (0.0, None, None)],
)
def test_a_torch_for_cpus_is_a_fault_of_a_node_with_gpus(
    monkeypatch: pytest.MonkeyPatch, gpus: float, cuda: str | None, expected: str | None
) -> None:
    monkeypatch.setattr(gpu_nodes, "this_nodes_gpus", lambda: gpus)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    fault = gpu_nodes._fault()
    assert fault is None if expected is None else fault is not None and fault.startswith(expected)


def test_a_node_that_cannot_use_its_gpus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*_: Any, timeout_s: float) -> list[tuple[str, str | None]]:
        return [("10.0.0.1", None), ("10.0.0.2", "has 8 GPU(s), and its torch was built for CPUs")]

    monkeypatch.setattr(gpu_nodes, "ask_every_node", answers)
    with pytest.raises(ServiceError, match=r"node 10\.0\.0\.2 has 8 GPU") as caught:
        gpu_nodes.check_nodes_use_gpus()
    assert "CUDA_VISIBLE_DEVICES" in caught.value.remedy


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_nodes_without_gpus_pass() -> None:
    gpu_nodes.check_nodes_use_gpus()
