import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alexnet.data.augment import Augment
from alexnet.data.batches import Batch
from alexnet.data.image_draws import draw_images
from alexnet.data.in_process import read_batches
from alexnet.data.input_statistics import InputStatistics
from alexnet.data.reader import ReadSpec
from alexnet.settings import (
    AugmentSettings,
    MixingSettings,
    NetworkSettings,
    OptimizerSettings,
    ProgressiveSize,
)
from alexnet.train.attempts import Attempt
from alexnet.train.average import WeightAverage
from alexnet.train.checkpoint import (
    TrainState,
    find_sound_checkpoint,
    open_checkpoint,
    read_tensors,
    write_checkpoint,
)
from alexnet.train.divergence import TrainingDiverged
from alexnet.train.epoch_losses import EpochLosses
from alexnet.train.loop import Learner, StepReport, train_loop
from alexnet.train.optimizer import build_optimizer, load_optimizer_state, optimizer_state
from alexnet.train.plan import LoopPlan
from alexnet.train.schedule_settings import (
    CosineSchedule,
    PlateauSchedule,
    PolynomialSchedule,
)
from alexnet.train.step import PLAIN, StepOptions
from alexnet.train.world import World
from infra.store import FolderStore
from preprocessing.dataset.manifest import open_dataset
from preprocessing.dataset.statistics import read_statistics

# More cost time with a network this small, above all on a busy machine.
pytestmark = pytest.mark.usefixtures("one_thread")

# The dataset has 20 images of 48 px: an epoch is batches of 8, 8 and 4.
CROP_PX, NUM_CLASSES, BATCH = 40, 7, 8
ALONE = World()
NETWORK = NetworkSettings(width=0.05, init="fan-in")

PLAN = LoopPlan(
    seed=5,
    total_steps=9,
    steps_per_epoch=3,
    full_batch_rows=BATCH,
    schedule=CosineSchedule(weight_rate=0.01, bias_rate=0.02, warmup_fraction=0.3),
    augment=AugmentSettings(crop_px=CROP_PX),
    log_every_steps=2,
    save_every_steps=None,
    save_every_epochs=None,
)

TRAIN_AS_RANK = """
import runpy, sys
runpy.run_path(sys.argv[1])["train_as_rank"](int(sys.argv[2]), *sys.argv[3:])
"""


@dataclass
class Training:
    """One plain process that trains, and what it said and kept on the way."""

    uri: str
    plan: LoopPlan = PLAN
    world: World = ALONE
    global_batch: int = BATCH
    average: WeightAverage | None = None
    wait_s: float = 0.0
    """For each batch."""
    settings: NetworkSettings = NETWORK
    trained: list[int] = field(default_factory=list)
    reports: list[StepReport] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    states: dict[int, tuple[dict[str, Tensor], dict[str, Tensor]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        store = FolderStore(Path(self.uri))
        statistics = read_statistics(store, open_dataset(store).statistics)
        with torch.random.fork_rng():
            torch.manual_seed(self.plan.seed)
            self.network = self.settings.build(NUM_CLASSES, CROP_PX)
        self.optimizer = build_optimizer(self.network, OptimizerSettings())
        self.augment = Augment(self.plan.augment, InputStatistics.of(statistics))

    def batches(self, first_step: int, stop_step: int) -> Iterator[Batch]:
        spec = ReadSpec(
            dataset_uri=self.uri,
            seed=self.plan.seed,
            global_batch=self.global_batch,
            order_kind="reshuffled",
            crop_px=CROP_PX,
            crop_sharing=self.plan.augment.crop_sharing,
        )
        for batch in read_batches(
            spec,
            first_step=first_step,
            stop_step=stop_step,
            rank=self.world.rank,
            world_size=self.world.size,
        ):
            time.sleep(self.wait_s)
            yield batch

    def run(self, first_step: int = 0, stop_step: int | None = None) -> "Training":
        model: nn.Module = self.network
        if self.world.size > 1:
            model = nn.parallel.DistributedDataParallel(model)
        cpu = torch.device("cpu")
        looks = isinstance(self.plan.schedule, PlateauSchedule)
        losses = EpochLosses(self.world, cpu) if looks else None
        learner = Learner(model, self.optimizer, self.augment, cpu, self.average, losses)
        train_loop(
            learner,
            self.batches(first_step, stop_step or self.plan.total_steps),
            self.plan,
            self.world,
            trained=lambda batch: self.trained.append(batch.step),
            report=self.reports.append,
            save=self._save,
        )
        return self

    def _save(self, step: int) -> None:
        self.saved.append(step)
        parts = (self.network.state_dict(), optimizer_state(self.optimizer))
        model, velocity = ({k: v.clone() for k, v in part.items()} for part in parts)
        self.states[step] = (model, velocity)

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.network.state_dict()


def train_as_rank(rank: int, uri: str, meeting: str, result: str) -> None:
    """Be one of two ranks: 19 rows, then 1, of which rank 0 has none; both twice."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2
    )
    training = Training(uri, TWO_STEPS_AN_EPOCH, World(rank, 2), global_batch=19)
    training.wait_s = 0.2 * rank
    training.run()
    if rank == 0:
        losses = torch.tensor([report.loss for report in training.reports])
        waited = torch.tensor([report.waited_frac for report in training.reports])
        save_file({**training.weights, "losses": losses, "waited": waited}, result)
    # DDP lies in a cycle and holds the group, whose threads must not outlive the interpreter.
    gc.collect()
    torch.distributed.destroy_process_group()


TWO_STEPS_AN_EPOCH = replace(
    PLAN,
    total_steps=4,
    steps_per_epoch=2,
    full_batch_rows=19,
    log_every_steps=1,
    mixing=MixingSettings(mixup=0.4, cutmix=1.0),
    options=StepOptions(microbatch=4),
)


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture
def uri(tiny_training: Any) -> str:
    return str(tiny_training.store.uri)


def test_the_same_seed_twice_gives_the_same_weights_to_the_bit(uri: str) -> None:
    first, second = Training(uri).run(), Training(uri).run()
    assert first.trained == list(range(9))
    assert_equal(first.weights, second.weights)
    assert [p.loss for p in first.reports] == [p.loss for p in second.reports]


def test_another_seed_gives_others(uri: str) -> None:
    first, second = Training(uri).run(), Training(uri, replace(PLAN, seed=6)).run()
    assert not torch.equal(first.weights["conv1.weight"], second.weights["conv1.weight"])


def test_every_parameter_learns(uri: str) -> None:
    training = Training(uri)
    before = {name: tensor.clone() for name, tensor in training.weights.items()}
    for name, tensor in training.run().weights.items():
        assert not torch.equal(tensor, before[name]), name
        assert tensor.isfinite().all()


@pytest.mark.parametrize("stop_step", [1, 3, 5])
@pytest.mark.parametrize("augment", [{}, {"crop_sharing": 32}])
def test_stopped_saved_and_resumed_is_as_uninterrupted_to_the_bit(
    uri: str, tmp_path: Path, stop_step: int, augment: dict[str, Any]
) -> None:
    """In the middle of an epoch and at its end."""
    plan = replace(PLAN, augment=AugmentSettings(crop_px=CROP_PX, **augment))
    stopped = Training(uri, plan).run(0, stop_step)
    run = FolderStore(tmp_path)
    state = TrainState(
        step=stop_step,
        epoch=stop_step // 3,
        attempt=1,
        run_key="0" * 64,
        dataset_fingerprint="1" * 64,
        seed=plan.seed,
        global_batch=BATCH,
        num_classes=NUM_CLASSES,
        network=NETWORK,
        augment=plan.augment,
    )
    write_checkpoint(run, state, stopped.weights, optimizer_state(stopped.optimizer))

    found = find_sound_checkpoint(run, [Attempt(number=1, start_step=0, world_size=1)])
    assert found is not None
    store = run.child(found.folder)
    receipt, saved = open_checkpoint(store)
    resumed = Training(uri, plan)
    resumed.network.load_state_dict(read_tensors(store, receipt.model))
    load_optimizer_state(resumed.optimizer, read_tensors(store, receipt.optimizer))
    resumed.run(saved.step)

    whole = Training(uri, plan).run()
    assert stopped.trained + resumed.trained == whole.trained
    assert_equal(resumed.weights, whole.weights)
    assert_equal(optimizer_state(resumed.optimizer), optimizer_state(whole.optimizer))


def test_a_report_comes_every_so_many_steps(uri: str) -> None:
    training = Training(uri).run()
    assert [report.step for report in training.reports] == [2, 4, 6, 8]
    # Batches of 8, 8, 4 in turn.
    assert [report.images for report in training.reports] == [16, 12, 12, 16]
    for report in training.reports:
        assert 0 <= report.waited_frac <= 1
        assert 0.5 < report.loss < 10
        assert report.bias_rate == pytest.approx(2 * report.weight_rate)  # as PLAN has it
    assert training.reports[-1].weight_rate < training.reports[1].weight_rate


def test_a_step_has_the_rate_of_the_updates_before_it_over_all_of_the_run(uri: str) -> None:
    """Also of a run that goes on: the first of nine has the whole rate, the last 1/81 of it."""
    schedule = PolynomialSchedule(power=2, weight_rate=0.01, bias_rate=0.02)
    plan = replace(PLAN, schedule=schedule, log_every_steps=1)
    rates = [0.01 * (1 - done / 9) ** 2 for done in range(9)]
    assert [p.weight_rate for p in Training(uri, plan).run().reports] == pytest.approx(rates)
    assert [p.weight_rate for p in Training(uri, plan).run(4).reports] == pytest.approx(rates[4:])


def test_reports_go_on_in_the_same_rhythm_after_a_restart(uri: str) -> None:
    training = Training(uri).run(3)
    assert [report.step for report in training.reports] == [4, 6, 8]


@pytest.mark.parametrize(
    ("every_steps", "every_epochs", "expected"),
    [
        (None, None, [9]),
        (4, None, [4, 8, 9]),
        (None, 1, [3, 6, 9]),
        (None, 2, [6, 9]),
        (2, 1, [2, 3, 4, 6, 8, 9]),
        (100, 100, [9]),
    ],
)
def test_state_is_saved_when_the_plan_says_so_and_at_the_end(
    uri: str, every_steps: int | None, every_epochs: int | None, expected: list[int]
) -> None:
    plan = replace(PLAN, save_every_steps=every_steps, save_every_epochs=every_epochs)
    training = Training(uri, plan).run()
    assert training.saved == expected
    assert_equal(training.states[9][0], training.weights)


def test_what_is_saved_is_the_state_after_so_many_updates(uri: str) -> None:
    training = Training(uri, replace(PLAN, save_every_steps=4)).run()
    shorter = Training(uri).run(0, 4)
    assert_equal(training.states[4][0], shorter.weights)
    assert_equal(training.states[4][1], optimizer_state(shorter.optimizer))


PLATEAU = PlateauSchedule(weight_rate=0.01, bias_rate=0.02)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"log_every_steps": 2}, "after step 2"),
        ({"log_every_steps": 100, "save_every_steps": 3}, "after step 3"),
        ({"log_every_steps": 3, "schedule": PLATEAU}, "after step 3"),
        ({"log_every_steps": 100, "schedule": PLATEAU}, "in epoch 1"),
    ],
)
def test_a_loss_that_is_no_number_stops_before_anything_is_saved(
    uri: str, changes: dict[str, Any], said: str
) -> None:
    training = Training(uri, replace(PLAN, **changes))
    with torch.no_grad():
        training.network.get_parameter("fc8.bias")[0] = float("nan")
    with pytest.raises(TrainingDiverged, match=f"the loss is nan {said}") as caught:
        training.run()
    assert "train.schedule" in caught.value.remedy
    assert caught.value.exit_code == 2
    assert training.saved == []
    assert training.reports == []


def test_rates_too_high_diverge(uri: str) -> None:
    schedule = CosineSchedule(weight_rate=1e6, bias_rate=1e6)
    with pytest.raises(TrainingDiverged):
        Training(uri, replace(PLAN, schedule=schedule)).run()


def test_two_ranks_learn_what_one_does(uri: str, tmp_path: Path) -> None:
    """By DDP over gloo, a share of no row included."""
    result = tmp_path / "weights.safetensors"
    ranks = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                TRAIN_AS_RANK,
                __file__,
                str(rank),
                uri,
                str(tmp_path / "meeting"),
                str(result),
            ]
        )
        for rank in range(2)
    ]
    try:
        assert [rank.wait(timeout=60) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    found = load_file(result)
    losses = found.pop("losses").tolist()
    # Only rank 1 waited for its batches, and rank 0 with it.
    assert found.pop("waited").max() > 0.4
    alone = Training(uri, TWO_STEPS_AN_EPOCH, global_batch=19).run()
    assert losses == pytest.approx([report.loss for report in alone.reports], rel=1e-5)
    assert found.keys() == alone.weights.keys()
    for name, tensor in found.items():
        assert torch.allclose(tensor, alone.weights[name], rtol=1e-5, atol=1e-5), name


def test_a_last_batch_of_one_image_trains_with_batch_norm_too(uri: str) -> None:
    """Of 20 images, 19 and 1; its fully connected layers have a norm each."""
    plan = replace(TWO_STEPS_AN_EPOCH, mixing=None, options=PLAIN)
    settings = NetworkSettings(name="alexnet-bn", variant="small-images", width=0.05)
    training = Training(uri, plan, global_batch=19, settings=settings).run()
    assert [report.images for report in training.reports] == [19, 1] * 2
    assert all(tensor.isfinite().all() for tensor in training.weights.values())


@pytest.mark.parametrize(("batch", "rest_counts"), [(19, False), (13, True), (20, True)])
def test_the_small_rest_of_an_epoch_leaves_moving_averages_alone(
    uri: str, batch: int, rest_counts: bool
) -> None:
    """Of 20 images 1; 7 are more than half of 13; and 20 are a whole batch."""
    plan = replace(PLAN, total_steps=2, full_batch_rows=batch, save_every_steps=1)
    settings = NetworkSettings(name="alexnet-bn", variant="small-images", width=0.05)
    training = Training(uri, plan, global_batch=batch, settings=settings).run()
    first, second = (training.states[step][0] for step in (1, 2))
    for name in ("norm1.running_mean", "norm5.running_var"):
        assert torch.equal(first[name], second[name]) == (not rest_counts), name
    assert not torch.equal(first["fc8.bias"], second["fc8.bias"])


def test_the_average_takes_in_every_update(uri: str) -> None:
    training = Training(uri, replace(PLAN, save_every_steps=1))
    initial = {name: tensor.clone() for name, tensor in training.weights.items()}
    training.average = WeightAverage(training.network, 0.999)
    training.run()
    expected = initial["fc8.bias"]
    for step in range(1, 10):
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * training.states[step][0]["fc8.bias"]
    assert torch.allclose(training.average.state()["fc8.bias"], expected, rtol=1e-5)


def test_blends_change_what_is_learned_and_a_microbatch_does_not(uri: str) -> None:
    plain, blended, in_pieces = (
        Training(uri, plan).run().weights["conv1.weight"]
        for plan in (
            PLAN,
            replace(PLAN, mixing=MixingSettings(cutmix=1.0)),
            replace(PLAN, options=StepOptions(microbatch=3)),
        )
    )
    assert torch.allclose(plain, in_pieces, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(plain, blended, rtol=1e-4, atol=1e-6)


class AnySize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 5)
        self.fc8 = nn.Linear(4, NUM_CLASSES)
        self.seen: list[int] = []

    def forward(self, images: Tensor, sample_keys: Tensor) -> Tensor:
        self.seen.append(images.shape[-1])
        logits: Tensor = self.fc8(self.conv1(images).mean((2, 3)))
        return logits


def test_the_input_grows_from_epoch_to_epoch(uri: str) -> None:
    progressive = ProgressiveSize(first_px=16, until=0.6, multiple_px=8)
    training = Training(uri, replace(PLAN, progressive=progressive))
    training.network = network = AnySize()  # type: ignore[assignment]
    training.optimizer = build_optimizer(network, OptimizerSettings())
    training.run()
    assert network.seen == [16] * 3 + [24] * 3 + [CROP_PX] * 3


def test_neighbours_that_share_a_crop_share_the_flip_too(uri: str) -> None:
    plan = replace(PLAN, augment=AugmentSettings(crop_px=CROP_PX, crop_sharing=4))
    drawn = []
    for batch in Training(uri, plan).batches(0, 9):
        flips = draw_images(batch, plan.augment, seed=5, device=torch.device("cpu")).flips
        assert flips is not None
        drawn += [four.unique().tolist() for four in flips.split(4)]
    assert all(len(values) == 1 for values in drawn)
    assert [False] in drawn
    assert [True] in drawn


def test_each_batch_is_averaged_over_its_own_rows(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def note(*_: Any, batch_rows: int, **__: Any) -> Tensor:
        seen.append(batch_rows)
        return torch.zeros(())

    monkeypatch.setattr("alexnet.train.loop.train_step", note)
    Training(uri).run()
    assert seen == [8, 8, 4] * 3
