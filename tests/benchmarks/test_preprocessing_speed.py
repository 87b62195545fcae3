"""That the loops and the build do the same work, and what the tables say."""

from pathlib import Path

import pytest
from jpeg_archives import make_jpeg, write_archives

from benchmarks.machine import read_hardware
from benchmarks.preprocessing.breakdown import BARE, added_share, measure_steps
from benchmarks.preprocessing.loops import LoopName, LoopWork, take_loop
from benchmarks.preprocessing.measured import Measured
from benchmarks.preprocessing.ours import Commands, take_build
from benchmarks.preprocessing.rival_program import square, unpack
from benchmarks.preprocessing.sources import (
    Source,
    given_archives,
    repeated_archives,
    repeated_photographs,
)
from benchmarks.preprocessing.speed import candidate_of
from benchmarks.preprocessing.speed_report import OURS, SourceReport, SpeedReport, format_speed
from preprocessing.settings import PrepareSettings

OPTIONS = PrepareSettings(stored_px=32, rows_per_group=4, rows_per_shard=8, max_rejects=1)
IMAGES = 2 * 6 + 4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = write_archives(tmp_path_factory.mktemp("archives"), bad=[3])
    return given_archives(str(folder), OPTIONS)


@pytest.mark.parametrize(("loop", "processes"), [("bare", 2), ("whole", 1), ("pillow", 1)])
def test_every_loop_goes_through_the_images_that_are_some(
    source: Source, tmp_path: Path, loop: LoopName, processes: int
) -> None:
    members = source.members(tmp_path)
    work = LoopWork(
        loop=loop,
        folder=source.tars[0].parent,
        members=members,
        source=source,
        workspace=tmp_path,
    )
    measured = take_loop(work, processes)
    assert (measured.images, measured.cores) == (IMAGES - 1, processes)
    assert measured.cpu_s > 0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_build_is_measured_and_leaves_nothing(source: Source, tmp_path: Path) -> None:
    measured = take_build(source, 1, tmp_path)
    assert measured.images == IMAGES - 1
    assert measured.elapsed_s > 0
    assert measured.peak_worker_bytes
    assert list(tmp_path.iterdir()) == []


def test_photographs_are_repeated_under_names_of_their_own(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photographs")
    source = repeated_photographs(photographs, 40, tmp_path / "tars", OPTIONS)
    members = source.members(tmp_path / "workspace")
    assert len(members) == 40
    assert len({member.name for member in members}) == 40
    assert sum(member.split == "val" for member in members) == 2


def test_images_of_archives_are_repeated_the_bad_one_too(source: Source, tmp_path: Path) -> None:
    folder = source.tars[0].parent
    repeated = repeated_archives(str(folder), 40, tmp_path / "repeated", OPTIONS)
    members = repeated.members(tmp_path / "workspace")
    assert len({member.name for member in members}) == 40
    assert sum(member.split == "val" for member in members) == 2
    sizes = {member.size_bytes for member in source.members(tmp_path / "before")}
    assert {member.size_bytes for member in members} == sizes


def test_a_loop_of_some_images_renders_the_shards_they_are_in(
    source: Source, tmp_path: Path
) -> None:
    work = LoopWork(
        loop="whole",
        folder=source.tars[0].parent,
        members=source.members(tmp_path)[:7],
        source=source,
        workspace=tmp_path,
    )
    # The bad one may be in that shard.
    assert take_loop(work, 1).images in (OPTIONS.rows_per_shard - 1, OPTIONS.rows_per_shard)


def write_photographs(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.JPEG").write_bytes(make_jpeg(number))
    return folder


def test_what_others_need_is_unpacked_and_what_is_no_image_left_out(
    source: Source, tmp_path: Path
) -> None:
    paths = unpack([str(tar) for tar in source.tars], tmp_path)
    assert len(paths) == IMAGES
    squares = [square(path, 16, 90) for path in paths]
    assert sum(one is not None for one in squares) == IMAGES - 1


def test_the_steps_are_all_there(source: Source, tmp_path: Path) -> None:
    steps = measure_steps(source, source.members(tmp_path), source.tars[0].parent)
    assert set(BARE) < set(steps)
    assert all(us > 0 for us in steps.values())
    assert added_share(dict.fromkeys(BARE, 10.0) | {"more": 20.0}) == 0.5


def measured(per_second: float, cores: int = 1, steady_s: float | None = None) -> Measured:
    return Measured(
        images=1000,
        elapsed_s=1000 / per_second / cores,
        cpu_s=500 / per_second,
        cores=cores,
        steady_s=steady_s,
        steady_cpu_s=None if steady_s is None else 5.0,
    )


def test_a_pass_is_held_against_the_base_around_it() -> None:
    passes = [measured(90, cores=2, steady_s=5.0), measured(50)]
    bases = [measured(100), measured(140), measured(100), measured(100)]
    found = candidate_of("ours", passes, bases)
    assert found.by_clock == pytest.approx((0.75, 0.5))
    assert found.by_cpu == pytest.approx((0.75, 0.5))
    assert found.by_cpu_steady == pytest.approx((0.75 * (500 / 90) / 5.0,))
    assert found.by_clock_steady == pytest.approx((0.75 * (1000 / 180) / 5.0,))


@pytest.mark.parametrize("has_others", [True, False])
def test_the_table_says_what_was_left_out(has_others: bool) -> None:
    base = candidate_of("bare", [measured(100)], [measured(100)] * 2)
    ours = candidate_of(f"{OURS}2 workers", [measured(90, 2, 5.5)], [measured(100)] * 2)
    report = SpeedReport(
        started_at="2026-01-01T00:00:00+00:00",
        hardware=read_hardware(),
        versions={"pillow": "1"},
        commit=None,
        load_average=(0.0, 1.0),
        has_others=has_others,
        sources=(
            SourceReport(
                name="some",
                images=1000,
                bytes_per_image=11,
                rows_per_shard=64,
                base=base,
                candidates=(ours,),
                steps_us=dict.fromkeys(BARE, 10.0) | {"more": 10.0},
                command=Commands(first_s=9.0, again_s=2.0, peak_bytes=1 << 20),
                estimated_cpu_s=5.0,
            ),
        ),
    )
    table = format_speed(report)
    assert ("left out" in table) is not has_others
    assert "0.90 [0.90, 0.90]" in table
    assert "`--estimate` said 5.0 s of CPU, of what builds took 0.90 [0.90, 0.90]" in table
    assert "added to the bare loop: 25%; so a build can reach 0.80 of it, less" in table
    assert "1,000 images of 11 bytes, 64 a shard" in table
