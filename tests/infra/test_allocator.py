import resource
import sys
import threading

import pytest
import ray

from infra.allocator import keep_memory
from infra.ray_runtime import Resources

MEBIBYTES = 100
ROUNDS = 4


@ray.remote(num_cpus=0)
def _faults_a_round() -> list[int]:
    """Fill big memory again and again in a thread, as Ray Train calls a training."""
    faults = []

    def work() -> None:
        keep_memory()
        for _ in range(ROUNDS):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            b"1" * (MEBIBYTES * 2**20)  # malloc and memset, nothing else
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return faults


@pytest.mark.ray
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is about glibc")
def test_a_training_in_rays_thread_keeps_its_memory(ray_local: Resources) -> None:
    pages = MEBIBYTES * 2**20 // resource.getpagesize()
    first, *others = ray.get(_faults_a_round.remote())
    assert first > pages // 2, "the memory was never touched"
    assert max(others) < pages // 20
