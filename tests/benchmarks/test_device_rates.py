import time

import torch

from benchmarks.device_rates import measure_rates, timed_ms

CPU = torch.device("cpu")


def test_pieces_of_work_are_timed_each_in_every_round() -> None:
    order: list[str] = []

    def slow() -> None:
        order.append("slow")
        time.sleep(0.005)

    times_ms = timed_ms([slow, lambda: order.append("quick")], 4, CPU)
    assert [len(one) for one in times_ms] == [4, 4]
    assert order == ["slow", "quick"] * 7  # three rounds do not count
    assert min(times_ms[0]) >= 5


def test_rates_of_this_device() -> None:
    rates = measure_rates(CPU, ["fp32", "bf16"])
    assert list(rates.flop_per_s) == ["fp32", "bf16"]
    assert rates.flop_per_s["fp32"] > 1e8
    assert rates.bytes_per_s > 1e8
