import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from alexnet.train.schedule import Rates, last_phase_start, layers_named, rates_at, stair_at
from alexnet.train.schedule_settings import (
    CosineSchedule,
    DexpSchedule,
    LayerRates,
    PhasesSchedule,
    PlateauSchedule,
    PolynomialSchedule,
    ScheduleSettings,
    Staircase,
)

ANY: TypeAdapter[ScheduleSettings] = TypeAdapter(ScheduleSettings)

# As YAML gives it: the schedule of net 145, spec 4.4 and 4.10.
NET_145 = {
    "kind": "phases",
    "phases": [
        {"from_epoch": 1, "weight_rate": 0.01, "bias_rate": 0.02, "color_noise": 0.1},
        {"from_epoch": 25, "weight_rate": 0.001, "bias_rate": 0.02},
        {"from_epoch": 51, "weight_rate": 0.0001, "bias_rate": 0.02},
        {
            "from_epoch": 67,
            "weight_rate": 0.0001,
            "bias_rate": 0.02,
            "layers": {"conv1": {"weight_rate": 0.00001, "bias_rate": 0.02}},
            "color_noise": 0,
        },
        {
            "from_epoch": 72,
            "weight_rate": 0.0001,
            "bias_rate": 0.02,
            "layers": {"conv1": {"weight_rate": 0, "bias_rate": 0}},
            "color_noise": 0,
        },
        {
            "from_epoch": 79,
            "weight_rate": 0.00001,
            "bias_rate": 0.02,
            "layers": {"conv1": {"weight_rate": 0, "bias_rate": 0}},
            "color_noise": 0,
        },
    ],
}
CC2 = DexpSchedule(
    weight=Staircase(base=0.01, factor=250, steps=4),
    bias=Staircase(base=0.02, factor=10, steps=2),
)


@pytest.mark.parametrize(
    ("first", "last", "conv1", "others", "conv1_bias", "color_noise"),
    [
        (1, 24, 0.01, 0.01, 0.02, 0.1),
        (25, 50, 0.001, 0.001, 0.02, None),
        (51, 66, 0.0001, 0.0001, 0.02, None),
        (67, 71, 0.00001, 0.0001, 0.02, 0),
        (72, 78, 0, 0.0001, 0, 0),
        (79, 90, 0, 0.00001, 0, 0),
    ],
)
def test_phases_are_the_table_of_the_2012_run(
    first: int,
    last: int,
    conv1: float,
    others: float,
    conv1_bias: float,
    color_noise: float | None,
) -> None:
    schedule = ANY.validate_python(NET_145)
    for epoch in range(first - 1, last):
        rates = rates_at(schedule, epoch=epoch, progress=epoch / 90)
        assert rates.of("conv1", "weight") == conv1
        assert rates.of("conv1", "bias") == conv1_bias
        for layer in ("conv2", "fc6", "fc8"):
            assert rates.of(layer, "weight") == others
            assert rates.of(layer, "bias") == 0.02
        assert rates.color_noise == color_noise


def test_the_last_phase_and_the_named_layers_can_be_asked_for() -> None:
    schedule = ANY.validate_python(NET_145)
    assert last_phase_start(schedule) == 79
    assert layers_named(schedule) == {"conv1"}
    assert last_phase_start(CC2) == 1
    assert layers_named(CC2) == frozenset()


@pytest.mark.parametrize(
    ("progress", "weight", "bias"),
    [
        (0.0, 0.01, 0.02),
        (0.25, 0.01, 0.02),
        (0.2501, 0.0015874, 0.02),
        (0.5, 0.0015874, 0.02),
        (0.5001, 0.000251984, 0.002),
        (0.75, 0.000251984, 0.002),
        (0.7501, 0.00004, 0.002),
        (0.9999, 0.00004, 0.002),
    ],
)
def test_dexp_gives_the_rates_of_cuda_convnet2(progress: float, weight: float, bias: float) -> None:
    rates = rates_at(CC2, epoch=0, progress=progress)
    assert rates.of("conv1", "weight") == pytest.approx(weight, rel=1e-5)
    assert rates.of("conv1", "bias") == pytest.approx(bias, rel=1e-12)
    assert rates.color_noise is None


@given(st.integers(1, 12), st.integers(1, 50))
def test_a_stair_includes_its_end_whatever_the_rounding(steps: int, stair_length: int) -> None:
    staircase = Staircase(base=1.0, factor=2.0, steps=steps)
    total = steps * stair_length
    for stair in range(steps - 1):
        end = (stair + 1) * stair_length
        assert stair_at(staircase, end / total) > stair_at(staircase, (end + 0.5) / total)
        assert stair_at(staircase, end / total) == stair_at(staircase, (end - 0.5) / total)


def test_a_single_stair_is_a_constant_rate() -> None:
    staircase = Staircase(base=0.3, factor=10.0, steps=1)
    assert stair_at(staircase, 0.0) == stair_at(staircase, 0.99) == 0.3


def test_cosine_ramps_up_and_falls_to_its_final_rates() -> None:
    schedule = CosineSchedule(
        weight_rate=1.0, bias_rate=2.0, warmup_fraction=0.2, final_fraction=0.1
    )

    def weight_rate(progress: float) -> float:
        rates = rates_at(schedule, epoch=0, progress=progress)
        assert rates.bias_rate == pytest.approx(2 * rates.weight_rate)
        return rates.weight_rate

    assert weight_rate(0.0) == 0.0
    assert weight_rate(0.1) == pytest.approx(0.5)
    assert weight_rate(0.2) == pytest.approx(1.0)
    assert weight_rate(0.6) == pytest.approx(0.55)
    assert weight_rate(0.999999) == pytest.approx(0.1, abs=1e-6)


def test_cosine_without_a_ramp_starts_at_the_peak() -> None:
    schedule = CosineSchedule(weight_rate=0.5, bias_rate=1.0)
    assert rates_at(schedule, epoch=0, progress=0.0) == Rates(weight_rate=0.5, bias_rate=1.0)


@pytest.mark.parametrize(("epoch", "progress"), [(-1, 0.5), (0, 1.0), (0, -0.1), (0, float("nan"))])
def test_a_moment_outside_of_the_run_is_refused(epoch: int, progress: float) -> None:
    with pytest.raises(ValueError, match="outside of every run"):
        rates_at(CC2, epoch=epoch, progress=progress)


def test_a_layer_of_its_own_overrides_both_rates() -> None:
    own = LayerRates(weight_rate=0.1, bias_rate=0.2)
    rates = Rates(weight_rate=1.0, bias_rate=2.0, layers={"conv1": own})
    assert (rates.of("conv1", "weight"), rates.of("conv1", "bias")) == (0.1, 0.2)
    assert (rates.of("conv2", "weight"), rates.of("conv2", "bias")) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("starts", "reason"),
    [([2], "starts at epoch 2"), ([1, 5, 5], "do not increase"), ([1, 9, 5], "do not increase")],
)
def test_phases_start_at_one_and_increase(starts: list[int], reason: str) -> None:
    phases = [{"from_epoch": start, "weight_rate": 0.1, "bias_rate": 0.1} for start in starts]
    with pytest.raises(ValidationError, match=reason):
        PhasesSchedule.model_validate({"phases": phases})


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "phases", "phases": []},
        {"kind": "phases", "phases": [{"from_epoch": 0, "weight_rate": 0.1, "bias_rate": 0.1}]},
        {"kind": "phases", "phases": [{"from_epoch": 1, "weight_rate": -1, "bias_rate": 0.1}]},
        {"kind": "phases", "phases": [{"from_epoch": 1, "weight_rate": "1", "bias_rate": 0.1}]},
        {"kind": "cosine", "weight_rate": 1, "bias_rate": 1, "warmup_fraction": 1.0},
        {"kind": "cosine", "weight_rate": float("inf"), "bias_rate": 1},
        {"kind": "linear", "weight_rate": 1, "bias_rate": 1},
        {"weight_rate": 1, "bias_rate": 1},
    ],
)
def test_settings_refuse_what_makes_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ANY.validate_python(wrong)


def test_settings_survive_json() -> None:
    schedule = ANY.validate_python(NET_145)
    assert ANY.validate_json(ANY.dump_json(schedule)) == schedule
    assert ANY.validate_python(ANY.dump_python(schedule)) == schedule


def test_a_polynomial_ramps_up_and_falls_as_nvcaffe_does() -> None:
    """LARS at a batch of 32K: from 1 to 32 in 400 of 4,000 iterations, then (1 - t)^2; spec 4.8."""
    schedule = PolynomialSchedule(
        weight_rate=32.0, bias_rate=32.0, warmup_fraction=0.1, first_fraction=1 / 32
    )

    def rate(iteration: int) -> float:
        return rates_at(schedule, epoch=0, progress=iteration / 4000).weight_rate

    assert rate(0) == pytest.approx(1.0)
    assert rate(200) == pytest.approx(16.5)
    assert rate(400) == pytest.approx(32 * 0.9**2)
    assert rate(2000) == pytest.approx(8.0)
    assert rate(3999) == pytest.approx(32 * (1 / 4000) ** 2)


def test_a_power_of_one_is_a_straight_line() -> None:
    schedule = PolynomialSchedule(weight_rate=2.0, bias_rate=4.0, power=1.0)
    assert rates_at(schedule, epoch=0, progress=0.25) == Rates(weight_rate=1.5, bias_rate=3.0)


@pytest.mark.parametrize(
    ("kind", "progress", "weight", "bias"),
    [
        ("exp", 0.0, 0.01, 0.02),
        ("exp", 1 / 3, 0.0015874, 0.02 * 10 ** (-1 / 3)),
        ("exp", 0.5, 0.01 / 250**0.5, 0.02 / 10**0.5),
        ("exp", 2 / 3, 0.000251984, 0.02 * 10 ** (-2 / 3)),
        ("exp", 0.999999, 0.00004, 0.002),
        ("linear", 0.0, 0.01, 0.02),
        ("linear", 0.25, 0.00751, 0.0155),
        ("linear", 0.5, 0.00502, 0.011),
        ("linear", 0.999999, 0.00004, 0.002),
    ],
)
def test_smooth_falls_are_the_releases(
    kind: str, progress: float, weight: float, bias: float
) -> None:
    """Section 4.6: base * F^-p, or base * (1 - p) + base / F * p."""
    falls = {"weight": {"base": 0.01, "factor": 250.0}, "bias": {"base": 0.02, "factor": 10.0}}
    rates = rates_at(ANY.validate_python({"kind": kind, **falls}), epoch=0, progress=progress)
    # A straight line is not yet at its end a millionth before it.
    assert rates.of("conv1", "weight") == pytest.approx(weight, rel=1e-5, abs=2e-8)
    assert rates.of("fc8", "bias") == pytest.approx(bias, rel=1e-5, abs=2e-8)
    assert rates.color_noise is None


@pytest.mark.parametrize(
    ("losses", "drops"),
    [
        ([], 0),
        ([7.0, 6.0, 5.0, 4.0, 3.0], 0),
        ([7.0, 7.0, 7.0], 0),  # the first is always an improvement
        ([7.0, 7.0, 7.0, 7.0], 1),
        ([7.0, 6.99, 6.98, 6.97], 1),  # less than a hundredth below the best
        ([7.0, 7.0, 7.0, 6.0, 7.0, 7.0], 0),  # an improvement begins the count anew
        ([5.0, 6.0, 6.0, 6.0, 4.0, 4.0, 4.0, 4.0], 2),
        ([1.0] * 40, 3),  # no more than three, as in 2012
    ],
)
def test_rates_drop_when_the_loss_stalls(losses: list[float], drops: int) -> None:
    schedule = PlateauSchedule(weight_rate=0.01, bias_rate=0.02)
    rates = rates_at(schedule, epoch=len(losses), progress=0.5, epoch_losses=losses)
    assert rates.weight_rate == pytest.approx(0.01 * 10.0**-drops, rel=1e-12)
    assert rates.bias_rate == pytest.approx(0.02 * 10.0**-drops, rel=1e-12)


@pytest.mark.parametrize(("peak", "iterations"), [(24.0, 7_800), (32.0, 4_000)])
def test_lars_ramps_up_over_400_updates_at_either_batch(peak: float, iterations: int) -> None:
    """Section 4.8: at 16K and 32K from a rate of 1, then what is left of the run, squared."""
    schedule = PolynomialSchedule(
        weight_rate=peak,
        bias_rate=peak,
        warmup_fraction=400 / iterations,
        first_fraction=1 / peak,
    )

    def rate(iteration: int) -> float:
        return rates_at(schedule, epoch=0, progress=iteration / iterations).weight_rate

    assert rate(0) == pytest.approx(1.0)
    assert rate(100) == pytest.approx(1 + (peak - 1) / 4)
    assert rate(399) == pytest.approx(1 + (peak - 1) * 399 / 400)
    assert rate(400) == pytest.approx(peak * (1 - 400 / iterations) ** 2)
    assert rate(iterations // 2) == pytest.approx(peak / 4)
