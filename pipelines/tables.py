"""Results as text for people: predictions, runs, comparisons. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

_LONGEST: Final = 100
"""Characters to which a column of paths is aligned; a longer path pushes its line to the right."""


def predictions_text(fields: dict[str, Any]) -> str:
    """Write one line an image: path, then names with probabilities, best first."""
    if fields["output"] is not None:
        return f"{fields['count']:,} predictions → {fields['output']}"
    rows = [(item["path"], _top(item["top"])) for item in fields["predictions"]]
    return columns_text(rows)


def rejected_text(fields: dict[str, Any]) -> str:
    """Write one line a file that is no image; "" when all are."""
    rows = [(item["path"], item["reason"]) for item in fields["rejected"]]
    return "\n".join(["no images:", *columns_text(rows).splitlines()]) if rows else ""


def runs_text(runs: Sequence[dict[str, Any]]) -> str:
    """Write one line a training, newest first."""
    head = ("name", "status", "step", "epochs", "top-1", "ten crops", "dataset", "MLflow run")
    rows = [
        (
            run["name"],
            run["status"],
            _number(run["global_step"], ","),
            f"{_number(run['epoch'])}/{_number(run['epochs'])}",
            _number(run["top1"], ".4f"),
            _number(run["top1_ten_crop"], ".4f"),
            run["dataset"] or "-",
            run["mlflow_run_id"] or "-",
        )
        for run in runs
    ]
    return columns_text([head, *rows]) if rows else "no trainings in this workspace"


def comparison_text(fields: dict[str, Any]) -> str:
    """Write what differs and what came of it, a column a training, then the link."""
    runs = fields["runs"]
    facts = {
        "status": [run["status"] for run in runs],
        "step": [_number(run["global_step"], ",") for run in runs],
        "top-1": [_number(run["top1"], ".4f") for run in runs],
        "top-1, ten crops": [_number(run["top1_ten_crop"], ".4f") for run in runs],
    }
    fingerprints = [(run["dataset_fingerprint"] or "-")[:12] for run in runs]
    if len(set(fingerprints)) > 1:
        facts["dataset's fingerprint"] = fingerprints
    parameters = {key: map(_plain, values) for key, values in fields["parameters"].items()}
    metrics = {key: map(_metric, values) for key, values in fields["metrics"].items()}
    rows: list[Sequence[str]] = [("", *(run["name"] for run in runs))]
    for part in (facts, parameters, metrics):
        rows += [(key, *values) for key, values in part.items()]
        rows.append(("",))
    text = columns_text(rows).rstrip()
    if fields["link"] is None:
        return f"{text}\n\ncompare  no link: {fields['no_link']}"
    look = f"\nlook     {fields['look']}" if fields["look"] else ""
    return f"{text}\n\ncompare  {fields['link']}{look}"


def columns_text(rows: Iterable[Sequence[str]]) -> str:
    """Align all columns but the last of each row."""
    rows = list(rows)
    widths: dict[int, int] = {}
    for row in rows:
        for i, cell in enumerate(row[:-1]):
            widths[i] = max(widths.get(i, 0), min(len(cell), _LONGEST))
    return "\n".join(
        "  ".join([*(f"{cell:<{widths[i]}}" for i, cell in enumerate(row[:-1])), row[-1]])
        for row in rows
    )


def _top(top: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{item['name']} {item['probability']:.1%}".replace("%", " %") for item in top)


def _number(value: float | None, form: str = "") -> str:
    return "-" if value is None else f"{value:{form}}"


def _plain(value: str | None) -> str:
    return "-" if value is None else value


def _metric(value: float | str | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _plain(value)
