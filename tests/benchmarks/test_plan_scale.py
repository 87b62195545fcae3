"""Real ImageNet's numbers, without its pictures."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.plan_scale import class_counts
from benchmarks.rerun_scale import measure

ROOT = Path(__file__).parents[2]


def test_classes_have_as_many_images_as_in_ilsvrc_2012() -> None:
    counts = class_counts()
    assert (len(counts), counts.sum(), counts.min(), counts.max()) == (1000, 1_281_167, 732, 1300)
    assert (counts == 1300).sum() == 895


def test_a_made_up_dataset_is_one_that_prepare_finds() -> None:
    found = measure(share=0.02)
    assert (found["images"], found["shards"]) == (sum(class_counts() * 0.02 // 1) + 1000, 4)
    assert set(found["seconds"]) == {"read_index", "prepare_dataset"}


def test_all_of_imagenet_is_planned_in_a_minute_and_two_gigabytes() -> None:
    """In a process of its own, whose memory is its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.plan_scale"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert (found["images"], found["shards"]) == (1_331_167, 143 + 6)
    assert found["seconds"]["plan of both splits"] + found["seconds"]["key of the dataset"] < 60
    assert found["peak_mib"] < 2048
