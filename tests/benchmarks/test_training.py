import pytest

from benchmarks.training import MIN_STEPS, REPORTS, plan_steps, report_every


@pytest.mark.parametrize("rate", [1.0, 64.0, 900.0, 12_345.0])
def test_a_pass_lasts_long_enough_and_its_last_step_is_reported(rate: float) -> None:
    steps = plan_steps(rate, seconds=20, global_batch=128)
    assert steps >= MIN_STEPS
    assert steps * 128 >= rate * 20
    assert steps % report_every(steps) == 0
    assert steps // report_every(steps) <= REPORTS
