import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cpu_shares import plan_cpus


@pytest.mark.parametrize(
    ("sizes", "cpus", "expected"),
    [
        ([5000, 500], 2, [2, 2]),
        ([5000, 500], 16, [14, 2]),
        ([1] * 149, 128, [1] * 128 + [6] * 21),
        ([1] * 149, 200, [2] * 100 + [4] * 49),
        ([1] * 127, 128, [1] * 127),
        ([8960] * 400, 16, [1] * 400),
        ([8960] * 148 + [5200], 2, [1] * 148 + [2]),
        ([1, 1], 2, [1, 1]),
        ([1, 1, 1], 1, [1, 1, 1]),
        ([7], 8, [8]),
        ([0, 0], 4, [1, 1]),
        ([], 4, []),
    ],
)
def test_cpus_go_by_what_is_left(sizes: list[int], cpus: int, expected: list[int]) -> None:
    assert plan_cpus(sizes, cpus) == expected


@given(sizes=st.lists(st.integers(1, 9000), max_size=300), cpus=st.integers(1, 256))
def test_no_task_takes_more_than_there_are(sizes: list[int], cpus: int) -> None:
    planned = plan_cpus(sorted(sizes, reverse=True), cpus)
    assert len(planned) == len(sizes)
    assert all(1 <= each <= cpus for each in planned)


@given(num_tasks=st.integers(0, 400), cpus=st.integers(1, 64))
def test_of_equal_tasks_that_fill_the_cpus_each_has_one(num_tasks: int, cpus: int) -> None:
    assert plan_cpus([5] * (num_tasks * cpus), cpus) == [1] * (num_tasks * cpus)


@given(num_tasks=st.integers(1, 400), cpus=st.integers(1, 256))
def test_equal_tasks_end_no_later_than_with_one_cpu_each(num_tasks: int, cpus: int) -> None:
    """If threads cost nothing; times are those of begun rounds, each as long as its longest."""
    free, rounds = 0, [0.0]
    for each in plan_cpus([1] * num_tasks, cpus):
        if each > free:
            free = cpus
            rounds.append(0.0)
        free -= each
        rounds[-1] = max(rounds[-1], 1 / each)
    assert sum(rounds) <= -(-num_tasks // cpus) + 1e-9
