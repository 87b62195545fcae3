import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.settings import WorkerRange
from alexnet.train.placement import MIN_CPU_SHARE, Placement, has_room, place_workers
from infra.errors import ClusterTooSmall
from infra.ray_runtime import Node, Resources

GIB = float(1 << 30)


def cluster(cpus: float, gpus: float = 0.0, memory_gib: float = 512, nodes: int = 1) -> Resources:
    """Nodes that are all alike; cpus and gpus are of all of them."""
    return Resources((Node(cpus / nodes, gpus / nodes),) * nodes, memory_gib * GIB)


def booked(placement: Placement) -> float:
    tasks = placement.cpus_per_task * placement.tasks_per_worker
    return placement.workers * (placement.cpus_per_worker + tasks)


@pytest.mark.parametrize(
    ("workers", "per_worker", "threads", "per_task", "tasks"),
    [
        (1, 0.5, 2, 0.5, 3),
        (2, 0.5, 1, 0.5, 1),
        (3, 0.33, 1, 0.33, 1),
        (10, 0.1, 1, 0.1, 1),
    ],
)
def test_two_cpus_hold_up_to_ten_workers(
    workers: int, per_worker: float, threads: int, per_task: float, tasks: int
) -> None:
    assert place_workers(cluster(2), workers) == Placement(
        workers=workers,
        use_gpu=False,
        cpus_per_worker=per_worker,
        threads_per_worker=threads,
        cpus_per_task=per_task,
        tasks_per_worker=tasks,
        strategy="SPREAD",
        reads_at_home=True,
    )


def test_an_eleventh_worker_on_two_cpus_is_refused_with_the_numbers() -> None:
    with pytest.raises(ClusterTooSmall) as caught:
        place_workers(cluster(2, memory_gib=16), 11)
    assert "asks for 11 workers; this cluster holds 10" in caught.value.problem
    assert "2 CPUs, 0 GPUs, 16 GiB in 1 node(s)" in caught.value.problem
    assert "at most 10" in caught.value.remedy
    assert caught.value.exit_code == 2


def test_a_worker_has_a_gpu_to_itself() -> None:
    placement = place_workers(cluster(64, gpus=8, nodes=2), 8)
    assert placement.use_gpu
    assert placement.workers == 8
    assert placement.cpus_per_worker == 1.0
    assert placement.tasks_per_worker == 11
    with pytest.raises(ClusterTooSmall, match="holds 8"):
        place_workers(cluster(64, gpus=8), 9)


def test_a_range_takes_what_there_is() -> None:
    def workers(resources: Resources) -> int:
        return place_workers(resources, WorkerRange(min=2, max=4)).workers

    assert workers(cluster(2)) == 4
    assert workers(cluster(32, gpus=3)) == 3
    with pytest.raises(ClusterTooSmall, match="asks for 2 workers; this cluster holds 1"):
        workers(cluster(32, gpus=1))


def test_each_worker_needs_a_gibibyte() -> None:
    assert place_workers(cluster(8, memory_gib=3.5), WorkerRange(min=1, max=8)).workers == 3
    with pytest.raises(ClusterTooSmall, match="holds 3"):
        place_workers(cluster(8, memory_gib=3.5), 4)


def test_a_cluster_that_holds_nobody_says_so() -> None:
    with pytest.raises(ClusterTooSmall, match="holds 0"):
        place_workers(cluster(8, memory_gib=0.5), 1)


def test_a_worker_and_its_reading_tasks_fit_its_node() -> None:
    """Else the tasks, which stay there, would wait for ever."""
    for workers in (1, 2, 3, 10):
        placement = place_workers(cluster(2, nodes=2), workers)
        on_one_node = -(-workers // 2)
        tasks = placement.cpus_per_task * placement.tasks_per_worker
        assert on_one_node * (placement.cpus_per_worker + tasks) <= 1
    assert place_workers(cluster(2, nodes=2), 2).threads_per_worker == 1
    assert place_workers(cluster(32, nodes=2), 2).threads_per_worker == 16


def test_workers_of_a_lost_node_have_no_room_on_another() -> None:
    placement = place_workers(cluster(2, nodes=2), 2)
    assert has_room(placement, workers_here=1, node_cpus=1, cluster_cpus=2)
    assert not has_room(placement, workers_here=2, node_cpus=1, cluster_cpus=9)
    # Whatever was placed on one node fits it, down to the last hundredth.
    for workers in range(1, 11):
        placement = place_workers(cluster(2), workers)
        assert has_room(placement, workers_here=workers, node_cpus=2, cluster_cpus=2)


def test_workers_whose_readers_are_gone_have_no_room_though_they_fit_their_node() -> None:
    placement = place_workers(Resources((Node(4, 4), Node(64, 0)), 512 * GIB), 4)
    assert not placement.reads_at_home
    assert has_room(placement, workers_here=4, node_cpus=4, cluster_cpus=68)
    assert not has_room(placement, workers_here=4, node_cpus=4, cluster_cpus=4)


def test_workers_without_gpus_spread_and_with_gpus_stay_close() -> None:
    assert place_workers(cluster(32, nodes=2), 2).strategy == "SPREAD"
    assert place_workers(cluster(32, gpus=8, nodes=2), 2).strategy == "PACK"


def test_a_head_without_cpus_hosts_nobody() -> None:
    resources = Resources((Node(0, 0), Node(16, 0), Node(16, 0)), 64 * GIB)
    assert place_workers(resources, 2) == place_workers(cluster(32, nodes=2), 2)


def test_nodes_without_a_gpu_read_for_those_that_have_one() -> None:
    resources = Resources((Node(16, 4), Node(64, 0)), 512 * GIB)
    placement = place_workers(resources, 4)
    assert not placement.reads_at_home
    assert booked(placement) > 60
    assert place_workers(cluster(32, gpus=8, nodes=2), 8).reads_at_home
    a_small_head = Resources((Node(8, 0), *(Node(96, 8),) * 8), 4096 * GIB)
    assert place_workers(a_small_head, 64).reads_at_home


def test_on_a_shared_cluster_other_gpus_keep_their_cpus() -> None:
    """Readers that booked them all would leave those GPUs to nobody."""
    ours = cluster(64, gpus=8)
    theirs = Resources(ours.nodes, ours.memory_bytes, shared=True)
    assert booked(place_workers(ours, 2)) == pytest.approx(64, rel=0.02)
    assert booked(place_workers(theirs, 2)) == pytest.approx(16, rel=0.02)
    assert place_workers(theirs, 8) == place_workers(ours, 8)
    apart = Resources((Node(16, 4), Node(64, 0)), 512 * GIB, shared=True)
    assert booked(place_workers(apart, 1)) == pytest.approx(20, rel=0.02)


@given(st.integers(1, 256), st.sampled_from([0, 1, 4, 8]), st.data())
def test_no_more_is_booked_than_there_is_and_nobody_starves(
    cpus: int, gpus: int, data: st.DataObject
) -> None:
    resources = cluster(cpus, gpus, memory_gib=2000)
    capacity = min(5 * cpus, gpus or 5 * cpus)
    placement = place_workers(resources, data.draw(st.integers(1, capacity)))
    assert booked(placement) <= cpus + 1e-9
    assert placement.cpus_per_worker >= MIN_CPU_SHARE
    assert placement.cpus_per_task >= MIN_CPU_SHARE
    assert placement.tasks_per_worker >= 1
    assert placement.threads_per_worker >= 1
    if placement.use_gpu:
        assert placement.workers <= gpus
    with pytest.raises(ClusterTooSmall):
        place_workers(resources, capacity + 1)
