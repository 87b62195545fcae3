from collections.abc import Iterator

import pytest

from benchmarks.passes import (
    Pass,
    Stamp,
    Subject,
    compare,
    make_pass,
    make_series,
    ratio_of_medians,
    ratios_of,
    steady_rate,
)


def a_pass(rate: float) -> Pass:
    return Pass(images=100, elapsed_s=100 / rate, whole=rate, steady=2 * rate)


def test_the_steady_rate_leaves_out_a_slow_start_and_a_slow_end() -> None:
    slow_start = [Stamp(10.0 + i, 10 * i) for i in range(1, 3)]  # 20 images by 12 s
    middle = [Stamp(12.0 + i, 20 + 35 * i) for i in range(1, 3)]  # 90 by 14 s
    slow_end = [Stamp(34.0, 100)]
    assert steady_rate(slow_start + middle + slow_end) == 35.0


def test_too_few_stamps_have_no_steady_rate() -> None:
    assert steady_rate([Stamp(1.0, 100)]) is None
    with pytest.raises(ValueError, match="too short"):
        make_pass(0.0, [[Stamp(1.0, 100)]]).rate("steady")


def test_streams_that_run_at_the_same_time_are_summed() -> None:
    quick = [Stamp(1.0 + i, 10 * i) for i in range(1, 11)]
    slow = [Stamp(1.0 + 2 * i, 10 * i) for i in range(1, 11)]
    made = make_pass(1.0, [quick, slow])
    assert made == Pass(images=200, elapsed_s=20.0, whole=10.0, steady=15.0)


def test_a_candidate_is_divided_by_the_mean_of_the_base_before_and_after_it() -> None:
    bases, candidates = [a_pass(10), a_pass(30), a_pass(10)], [a_pass(10), a_pass(40)]
    assert ratios_of(bases, candidates, "whole") == (0.5, 2.0)
    assert ratios_of(bases, candidates, "steady") == (0.5, 2.0)


def test_passes_are_taken_in_turn_and_the_base_ends_them() -> None:
    taken: list[str] = []
    rates: Iterator[float] = iter([10, 8, 10, 6, 10, 7, 10])

    def subject(name: str) -> Subject:
        def take() -> Pass:
            taken.append(name)
            return a_pass(next(rates))

        return Subject(name=name, what="", take=take)

    results = compare(
        "c / b", subject("b"), subject("c"), quantity="whole", num_passes=3, floor=0.75
    )
    assert "".join(taken) == "bcbcbcb"
    (comparison,) = results.comparisons
    assert comparison.ratios == (0.8, 0.6, 0.7)
    assert comparison.median == 0.7
    assert comparison.holds is False
    assert [series.median for series in results.series] == [10, 7]


def test_without_a_floor_nothing_holds_or_fails() -> None:
    over, under = (
        make_series(Subject(name=name, what="", take=lambda: a_pass(1)), "whole", passes)
        for name, passes in (("a", [a_pass(3)]), ("b", [a_pass(2), a_pass(4)]))
    )
    comparison = ratio_of_medians("a / b", over, under)
    assert comparison.median == 1.0
    assert comparison.holds is None
