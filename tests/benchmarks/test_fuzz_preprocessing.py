"""Some hundreds of broken inputs, in a process of their own; the script tries thousands."""

import os
import random
import sys
from pathlib import Path

import pytest

from benchmarks.fuzz_child import Watch
from benchmarks.fuzz_mutations import (
    mutate,
    with_png_checksums,
    with_tar_checksums,
    with_wrong_tags,
)
from benchmarks.fuzz_preprocessing import (
    BOUND_BYTES,
    FuzzReport,
    KindReport,
    format_report,
    fuzz,
)
from benchmarks.fuzz_samples import images, tars
from benchmarks.fuzz_subjects import SUBJECTS
from infra.errors import ProjectError

CASES = 700


def test_broken_input_ends_as_it_should_whatever_is_broken() -> None:
    report = fuzz(seed=11, first=0, cases=CASES, kinds=list(SUBJECTS))
    assert report.failures == (), format_report(report)
    assert [kind.kind for kind in report.kinds] == list(SUBJECTS)
    for kind in report.kinds:
        # Neither do all mutations miss, nor are all files refused at once.
        assert kind.cases == CASES // len(SUBJECTS)
        assert 0 < kind.fine < kind.cases
        assert sum(kind.outcomes.values()) == kind.cases - kind.fine
        assert 0 < kind.peak_bytes < BOUND_BYTES


@pytest.mark.filterwarnings("ignore:::PIL")  # as in fuzz_child; of broken EXIF
@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_case_is_the_same_whenever_it_is_run(kind: str, tmp_path: Path) -> None:
    def outcome(number: int, name: str) -> str:
        folder = tmp_path / f"{name}-{number}"
        folder.mkdir()
        try:
            SUBJECTS[kind](random.Random(f"5/{kind}/{number}"), folder)
        except ProjectError as error:
            return error.problem.replace(str(folder), "")
        return ""

    first = [outcome(number, "first") for number in range(12)]
    assert first == [outcome(number, "again") for number in range(12)]
    assert len(set(first)) > 1


BAD_CHILD = """
import os, random, signal, sys, time
from pathlib import Path
from benchmarks import fuzz_child

def bad(rng, folder):
    number = int(folder.name) if folder.name.isdigit() else 0
    if number == 1: raise KeyError("a bug")
    if number == 2: os.kill(os.getpid(), signal.SIGSEGV)
    if number == 3: time.sleep(60)
    if number == 4: held.append(b"x" * (9 << 30))
    if number == 5: (folder.parent / "elsewhere").write_text("escaped")
    if number == 6: os.system("true")
    if number == 7: (folder / "inside").write_text("fine")

held = []
fuzz_child.SUBJECTS = {"bad": bad}
fuzz_child.main()
"""


def test_every_way_to_fail_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bad_child.py"
    script.write_text(BAD_CHILD)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    child = (sys.executable, str(script))
    report = fuzz(seed=0, first=0, cases=8, kinds=["bad"], limit_s=1.0, child=child)
    assert {failure.number: failure.outcome for failure in report.failures} == {
        1: "bug: KeyError",
        2: "crash: -11",
        3: "hang",
        4: "bug: MemoryError",
        5: "bug: not contained",
        6: "bug: not contained",
    }
    assert report.kinds[0].fine == 2
    assert "8 cases from 0, seed 0: 6 failures" in format_report(report)


def test_the_watch_sees_writes_outside_only(tmp_path: Path) -> None:
    watch = Watch()
    watch("open", (str(tmp_path / "x"), "w", 0))
    watch.folder = str(tmp_path)
    watch("open", (str(tmp_path / "x"), "w", 0))
    watch("open", ("/etc/passwd", "r", os.O_RDONLY))
    watch("open", (3, "w", os.O_WRONLY))
    watch("os.mkdir", (str(tmp_path / "y"), 511, -1))
    assert watch.seen == []
    watch("open", ("/tmp/x", None, os.O_WRONLY | os.O_CREAT))
    watch("open", (str(tmp_path / ".." / "x"), "w", 0))
    watch("os.rename", (str(tmp_path / "x"), "/etc/x", -1, -1))
    watch("subprocess.Popen", ("true", ["true"], None, None))
    assert len(watch.seen) == 4


def test_a_mutation_breaks_and_a_repair_mends_checksums() -> None:
    corpus = images()
    broken = {mutate(random.Random(number), corpus[0], corpus) for number in range(50)}
    assert len(broken) > 40
    tar = bytearray(tars()[0])
    tar[0:1] = b"X"  # of the first header's name
    assert with_tar_checksums(bytes(tar))[148:154] != tar[148:154]
    assert with_tar_checksums(tars()[0])[148:154] == tars()[0][148:154]
    png = next(body for body in corpus if body.startswith(b"\x89PNG"))
    assert with_png_checksums(png) == png
    assert with_png_checksums(png[:20] + b"\1" + png[21:]) != png[:20] + b"\1" + png[21:]
    assert with_wrong_tags(random.Random(0), corpus[0]) == corpus[0]
    exif = next(body for body in corpus if b"Exif\0\0" in body)
    assert len({with_wrong_tags(random.Random(number), exif) for number in range(50)}) > 40


def test_the_report_survives_its_own_json() -> None:
    kind = KindReport(
        kind="tar", cases=3, fine=1, outcomes={"ArchiveCorrupt": 2}, slowest_s=0.5, peak_bytes=9
    )
    report = FuzzReport(seed=0, first=0, cases=3, kinds=(kind,), failures=())
    assert FuzzReport.model_validate_json(report.model_dump_json()) == report
    assert "| tar | 3 | 1 | ArchiveCorrupt 2 | 0.50 s | 0 MiB |" in format_report(report)
