from typing import Any

import pytest

from pipelines.tables import (
    built_text,
    cleaning_text,
    comparison_text,
    predictions_text,
    refused_text,
    rejected_text,
    runs_text,
    verification_text,
)


def predicted(**changes: Any) -> dict[str, Any]:
    tops = [[("cat", 0.9716), ("dog", 0.0284)], [("dog", 1.0)]]
    return {
        "output": None,
        "count": 2,
        "predictions": [
            {"path": path, "top": [{"name": n, "probability": p} for n, p in top]}
            for path, top in zip(["a.jpg", "long name.jpg"], tops, strict=True)
        ],
        "rejected": [{"path": "b.txt", "reason": "not an image"}],
        **changes,
    }


def run(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "status": "FINISHED",
        "global_step": 12_000,
        "epoch": 20,
        "epochs": 20,
        "top1": 0.978,
        "top1_ten_crop": None,
        "top1_nine_crop": None,
        "dataset": "drawn",
        "dataset_fingerprint": "a" * 64,
        "mlflow_run_id": "r1",
        **changes,
    }


def compared(**changes: Any) -> dict[str, Any]:
    return {
        "runs": [run("demo-1"), run("demo-2", top1=None)],
        "parameters": {"train.epochs": ["20", None]},
        "metrics": {"train/loss": [0.123456789, "nan"]},
        "link": "http://127.0.0.1:5000/#/compare-runs",
        "look": "mlflow ui",
        "no_link": None,
        **changes,
    }


def test_a_line_an_image_and_the_others_apart() -> None:
    assert predictions_text(predicted()).splitlines() == [
        "a.jpg          cat 97.2 %, dog 2.8 %",
        "long name.jpg  dog 100.0 %",
    ]
    assert rejected_text(predicted()) == "no images:\nb.txt  not an image"
    assert rejected_text(predicted(rejected=[])) == ""


def test_what_was_written_is_not_printed_too() -> None:
    assert predictions_text(predicted(output="a.csv", count=4999)) == "4,999 predictions → a.csv"


def test_trainings_stand_in_columns() -> None:
    lines = runs_text([run("demo-1", top1_ten_crop=0.5), run("a", dataset=None)], "w").splitlines()
    assert lines == [
        "name    status    step    epochs  top-1   ten crops  dataset  MLflow run",
        "demo-1  FINISHED  12,000  20/20   0.9780  0.5000     drawn    r1",
        "a       FINISHED  12,000  20/20   0.9780  -          -        r1",
    ]
    assert runs_text([], "work") == "no trainings in work"


def test_nine_crops_have_a_column_where_a_training_has_them() -> None:
    runs = [run("cifar-1", top1_nine_crop=0.875), run("demo-1", top1_ten_crop=0.5)]
    head, first, second = runs_text(runs, "w").splitlines()
    assert "top-1   ten crops  nine crops  dataset" in head
    assert first.split()[4:7] == ["0.9780", "-", "0.8750"]
    assert second.split()[4:7] == ["0.9780", "0.5000", "-"]
    told = comparison_text(compared(runs=runs)).splitlines()
    assert ["top-1,", "nine", "crops", "0.8750", "-"] in [line.split() for line in told]


def test_a_comparison_ends_with_its_link() -> None:
    lines = comparison_text(compared()).splitlines()
    assert lines[0].split() == ["demo-1", "demo-2"]
    assert ["train.epochs", "20", "-"] in [line.split() for line in lines]
    assert ["train/loss", "0.123457", "nan"] in [line.split() for line in lines]
    assert lines[-2:] == [
        "compare  http://127.0.0.1:5000/#/compare-runs",
        "look     mlflow ui",
    ]
    assert "fingerprint" not in comparison_text(compared())


def test_a_comparison_without_a_link_says_why() -> None:
    text = comparison_text(compared(link=None, look=None, no_link="MLflow is away"))
    assert text.endswith("\n\ncompare  no link: MLflow is away")


def test_other_images_under_the_same_name_are_told() -> None:
    runs = [run("demo-1"), run("demo-2", dataset_fingerprint="b" * 64)]
    assert "fingerprint  aaaaaaaaaaaa  bbbbbbbbbbbb" in comparison_text(compared(runs=runs))


VERIFIED: dict[str, Any] = {
    "uri": "/w/datasets/d",
    "deep": False,
    "num_shards": 149,
    "num_rows": 1_331_167,
    "size_bytes": 38_912_345_678,
    "problems": [],
}


def test_a_check_says_what_was_looked_at() -> None:
    assert verification_text(VERIFIED).splitlines() == [
        "dataset  /w/datasets/d",
        "checked  every byte and row: 149 shards, 1,331,167 images, 38.9 GB",
        "result   whole",
    ]
    assert "every byte, row and image:" in verification_text({**VERIFIED, "deep": True})


def test_a_check_lists_all_problems() -> None:
    problems = [
        {"path": "a.parquet", "problem": "is missing"},
        {"path": "train/b.parquet", "problem": "has 1 bytes, it should have 2"},
    ]
    assert verification_text({**VERIFIED, "problems": problems}).splitlines()[2:] == [
        "result   2 problems",
        "",
        "a.parquet        is missing",
        "train/b.parquet  has 1 bytes, it should have 2",
    ]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e9, "2.0 GB"), (3e15, "3,000.0 TB")],
)
def test_what_was_removed_is_listed_with_sizes(size_bytes: int, text: str) -> None:
    fields = {
        "num_removed": 1,
        "size_bytes": size_bytes,
        "removed": [{"path": "datasets/x/a", "size_bytes": size_bytes}],
        "kept": [{"path": "datasets/y", "reason": "process 7 on here works on it"}],
    }
    assert cleaning_text(fields).splitlines() == [
        f"datasets/x/a  {text}",
        "datasets/y    left alone: process 7 on here works on it",
        f"1 files removed, {text}",
    ]
    nothing = {"num_removed": 0, "size_bytes": 0, "removed": [], "kept": []}
    assert cleaning_text(nothing) == "0 files removed, 0 bytes"


BUILT: dict[str, Any] = {
    "train": {"count": 4999},
    "val": {"count": 500},
    "num_shards": 9,
    "size_bytes": 53_329_986,
    "rejects": [],
}


def test_a_build_says_what_it_came_to() -> None:
    text = built_text(BUILT)
    assert text == "5,499 images in 9 shards, 53.3 MB; 0 rejects"


def test_a_build_names_some_of_what_it_could_not_use() -> None:
    rejects = [
        {"split": "val", "sample_id": i, "archive": "v.tar", "member": f"{i}.jpg", "reason": "cut"}
        for i in range(23)
    ]
    lines = built_text({**BUILT, "rejects": rejects}).splitlines()
    assert lines[0].endswith("; 23 rejects")
    assert lines[1] == "  val 0   v.tar  0.jpg   cut"
    assert lines[-1] == "  and 3 more"
    assert len(lines) == 22
    assert refused_text(rejects).splitlines()[1:] == lines[1:]


def test_no_name_of_a_file_reaches_the_terminal_as_a_command() -> None:
    name = "a\x1b[2J\r\nb\x9b\udcff é.jpg"
    told = r"a\x1b[2J\r\nb\x9b\udcff é.jpg"
    reject = {"split": "val", "sample_id": 0, "archive": name, "member": name, "reason": name}
    (line,) = refused_text([reject]).splitlines()[1:]
    assert line == f"  val 0  {told}  {told}  {told}"
    top = [{"name": name, "probability": 1.0}]
    text = predictions_text(predicted(predictions=[{"path": name, "top": top}]))
    assert text == f"{told}  {told} 100.0 %"
