from typing import Any

from pipelines.tables import comparison_text, predictions_text, rejected_text, runs_text


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
    lines = runs_text([run("demo-1", top1_ten_crop=0.5), run("a", dataset=None)]).splitlines()
    assert lines == [
        "name    status    step    epochs  top-1   ten crops  dataset  MLflow run",
        "demo-1  FINISHED  12,000  20/20   0.9780  0.5000     drawn    r1",
        "a       FINISHED  12,000  20/20   0.9780  -          -        r1",
    ]
    assert runs_text([]) == "no trainings in this workspace"


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
