from dataclasses import dataclass, field

import pytest

from infra.retry import RetryPolicy, retried_so_far


@dataclass
class FakeClock:
    """Time that passes by sleeping only."""

    now: float = 0.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


class Flaky:
    """Fails so many times, then succeeds."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


def is_timeout(error: Exception) -> bool:
    return isinstance(error, TimeoutError)


def test_what_fails_for_a_while_succeeds_with_growing_pauses() -> None:
    clock, work = FakeClock(), Flaky(6, TimeoutError())
    policy = RetryPolicy(deadline_s=60, first_wait_s=1, longest_wait_s=4)
    assert policy.call(work, what="x", is_transient=is_timeout, clock=clock) == "done"
    for pause, longest in zip(clock.sleeps, (1, 2, 4, 4, 4, 4), strict=True):
        assert longest / 2 <= pause <= longest


def test_after_the_deadline_the_last_error_is_raised() -> None:
    clock, work = FakeClock(), Flaky(1000, TimeoutError("away"))
    with pytest.raises(TimeoutError, match="away"):
        RetryPolicy(deadline_s=30).call(work, what="x", is_transient=is_timeout, clock=clock)
    assert 20 < clock.now <= 30


def test_what_will_not_pass_is_raised_at_once() -> None:
    clock, work = FakeClock(), Flaky(1, KeyError())
    with pytest.raises(KeyError):
        RetryPolicy().call(work, what="x", is_transient=is_timeout, clock=clock)
    assert (work.calls, clock.sleeps) == (1, [])


def test_no_patience_is_one_try() -> None:
    clock, work = FakeClock(), Flaky(1, TimeoutError())
    with pytest.raises(TimeoutError):
        RetryPolicy(deadline_s=0).call(work, what="x", is_transient=is_timeout, clock=clock)
    assert work.calls == 1


def test_what_was_tried_again_is_counted_by_kind_with_the_seconds_waited() -> None:
    clock, before = FakeClock(), retried_so_far()
    policy = RetryPolicy(deadline_s=60)
    for what in ("read a", "read b", "write c"):
        work = Flaky(1, TimeoutError())
        policy.call(work, what=what, is_transient=is_timeout, clock=clock)
    policy.call(Flaky(0, TimeoutError()), what="list", is_transient=is_timeout, clock=clock)
    with pytest.raises(TimeoutError):
        policy.call(Flaky(99, TimeoutError()), what="d", is_transient=is_timeout, clock=clock)
    found = retried_so_far() - before
    assert found.calls == {"read": 2, "write": 1, "d": 1}
    assert found.waited_s == pytest.approx(clock.now)
    assert found.text == (
        f"4 requests were tried again (1 to d, 2 to read, 1 to write), {clock.now:.0f} s waited in"
        " all"
    )
    assert (retried_so_far() - retried_so_far()).text == ""
