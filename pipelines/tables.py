"""Results as text for people: predictions, runs, comparisons. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from alexnet.evaluate.rows import VIEW_NAMES

MOST_REJECTS: Final = 20
"""Lines about images that a build could not use."""
_LONGEST: Final = 100
"""Characters to which a column of paths is aligned; a longer path pushes its line to the right."""
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and bytes of file names that are no text."""


def predictions_text(fields: dict[str, Any]) -> str:
    """Write one line an image: path, then names with probabilities, best first."""
    if fields["output"] is not None:
        return f"{fields['count']:,} predictions → {fields['output']}"
    rows = [(item["path"], _top(item["top"])) for item in fields["predictions"]]
    return columns_text(rows)


def similar_text(fields: dict[str, Any]) -> str:
    """Write one line a neighbour: the image asked about, place, distance, path; nearest first."""
    if fields["output"] is not None:
        return f"the nearest of {fields['count']:,} images → {fields['output']}"
    rows = [
        (query["path"] if place == 1 else "", str(place), f"{found['distance']:.4g}", found["path"])
        for query in fields["queries"]
        for place, found in enumerate(query["neighbours"], 1)
    ]
    return columns_text(rows)


def rejected_text(fields: dict[str, Any]) -> str:
    """Write one line a file that is no image; "" when all are."""
    rows = [(item["path"], item["reason"]) for item in fields["rejected"]]
    return "\n".join(["no images:", *columns_text(rows).splitlines()]) if rows else ""


def runs_text(runs: Sequence[dict[str, Any]], workspace: str) -> str:
    """Write one line a training, newest first."""
    crops = _crops_of(runs)
    head = ("name", "status", "step", "epochs", "top-1", *crops, "dataset", "MLflow run")
    rows = [
        (
            run["name"],
            run["status"],
            _number(run["global_step"], ","),
            f"{_number(run['epoch'])}/{_number(run['epochs'])}",
            _number(run["top1"], ".4f"),
            *(_number(run[field], ".4f") for field in crops.values()),
            run["dataset"] or "-",
            run["mlflow_run_id"] or "-",
        )
        for run in runs
    ]
    return columns_text([head, *rows]) if rows else f"no trainings in {workspace}"


def reaped_text(runs: Sequence[dict[str, Any]], workspace: str) -> str:
    """Write one line a run that is called KILLED now."""
    rows = [(run["name"], "KILLED", run["mlflow_run_id"]) for run in runs]
    return columns_text(rows) if rows else f"no training of {workspace} was left RUNNING there"


def comparison_text(fields: dict[str, Any]) -> str:
    """Write what differs and what came of it, a column a training, then the link."""
    runs = fields["runs"]
    facts = {
        "status": [run["status"] for run in runs],
        "step": [_number(run["global_step"], ",") for run in runs],
        "top-1": [_number(run["top1"], ".4f") for run in runs],
    }
    for name, field in _crops_of(runs).items():
        facts[f"top-1, {name}"] = [_number(run[field], ".4f") for run in runs]
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


def _crops_of(runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Name the columns of averages over crops: that of nine only where a training has it."""
    nine = {"nine crops": "top1_nine_crop"} if any(run["top1_nine_crop"] for run in runs) else {}
    return {"ten crops": "top1_ten_crop", **nine}


def built_text(fields: dict[str, Any]) -> str:
    """Write what a build came to, and up to MOST_REJECTS of the images it could not use."""
    count, rejects = fields["train"]["count"] + fields["val"]["count"], fields["rejects"]
    what = "reject" if len(rejects) == 1 else "rejects"
    text = (
        f"{count:,} images in {fields['num_shards']:,} shards, {_bytes(fields['size_bytes'])};"
        f" {len(rejects):,} {what}"
    )
    return "\n".join([text, *_reject_lines(rejects)])


def refused_text(rejects: Sequence[dict[str, Any]]) -> str:
    """Write up to MOST_REJECTS of the images for which a build was refused."""
    return "\n".join(["nothing is committed, these cannot be used:", *_reject_lines(rejects)])


def _reject_lines(rejects: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        (f"  {item['split']} {item['sample_id']}", item["archive"], item["member"], item["reason"])
        for item in rejects[:MOST_REJECTS]
    ]
    more = len(rejects) - len(rows)
    return [*columns_text(rows).splitlines(), *([f"  and {more:,} more"] if more else [])]


def verification_text(fields: dict[str, Any]) -> str:
    """Write what was checked, and one line a problem."""
    looked = "every byte, row and image" if fields["deep"] else "every byte and row"
    facts = [
        ("dataset", fields["uri"]),
        ("checked", f"{looked}: {fields['num_shards']:,} shards, {fields['num_rows']:,} images,"
         f" {_bytes(fields['size_bytes'])}"),
        ("result", f"{len(fields['problems']):,} problems" if fields["problems"] else "whole"),
    ]  # fmt: skip
    problems = [(item["path"], item["problem"]) for item in fields["problems"]]
    return "\n".join([columns_text(facts), *(["", columns_text(problems)] if problems else [])])


def cleaning_text(fields: dict[str, Any]) -> str:
    """Write one line a thing that was removed, what was left alone and why, and the sum."""
    removed = [(item["path"], _bytes(item["size_bytes"])) for item in fields["removed"]]
    kept = [(item["path"], f"left alone: {item['reason']}") for item in fields["kept"]]
    total = f"{fields['num_removed']:,} files removed, {_bytes(fields['size_bytes'])}"
    return "\n".join([*columns_text([*removed, *kept]).splitlines(), total])


def ensemble_text(fields: dict[str, Any]) -> str:
    """Write a line a member, then the mixture; of searched weights also what they are worth."""
    members = [(m["uri"], f"{m['weight']:.4f}", *_accuracy(m)) for m in fields["members"]]
    head = (VIEW_NAMES[fields["view"]], "weight", "top-1", "top-5", "loss")
    text = columns_text([head, *members, ("ensemble", "", *_accuracy(fields["ensemble"]))])
    parts = [f"{text}\non {fields['count']:,} validation images; in brackets 95 %"]
    if fields["search"] is not None:
        parts.append(_search_text(fields["search"]))
    if fields["output"] is not None:
        parts.append(f"{fields['count']:,} rows → {fields['output']}")
    return "\n".join(parts)


def _search_text(search: dict[str, Any]) -> str:
    weights = "weights " + ", ".join(f"{weight:.4f}" for weight in search["weights"])
    rows = [
        (name, *_accuracy(search[field]))
        for name, field in (
            (f"{weights}, on that half", "searched_on"),
            (f"{weights}, on the other half", "held_out"),
            ("equal weights, on the other half", "held_out_equal_weights"),
        )
    ]
    return (
        "\nThe weights were searched on the images they are counted on, which flatters them."
        f" Searched on every second image alone:\n{columns_text(rows)}"
    )


def validation_text(fields: dict[str, Any]) -> str:
    """Write a line a view, with 95 % intervals, and on what it was counted."""
    rows = [(name, *_accuracy(fields[view])) for view, name in VIEW_NAMES.items() if fields[view]]
    seen = fields["num_trained_on"]
    trained_on = "not known: its dataset is not here" if seen is None else f"{seen:,} of them"
    facts = [
        ("model", fields["model"]),
        ("images", f"{fields['count']:,}, the validation split of {fields['dataset']}"),
        ("trained on", trained_on),
        ("kept in", fields["uri"]),
    ]
    head = ("in brackets 95 %", "top-1", "top-5", "loss")
    return f"{columns_text([head, *rows])}\n\n{columns_text(facts)}"


def submission_text(fields: dict[str, Any]) -> str:
    """Write how many lines there are, and the errors with their 95 % intervals."""
    lines = [("answers", f"{fields['count']:,} lines of five ids in {fields['file']}")]
    for at in (1, 5) if fields["errors"] else ():
        low, high = fields["errors"][f"error{at}_interval"]
        lines.append(
            (
                f"top-{at} error",
                f"{fields['errors'][f'error{at}']:.4f} ({low:.4f}\N{EN DASH}{high:.4f}),"
                f" {fields['errors'][f'wrong{at}']:,} of {fields['count']:,}",
            )
        )
    return columns_text(lines)


def gradients_text(fields: dict[str, Any]) -> str:
    """Write one line a tensor of weights, and what was asked of all."""
    rows = [("tensor", "weights", "derivative", "relative error")]
    for tensor in fields["tensors"]:
        derivative, error = (
            _number(tensor[key], ".1e") for key in ("derivative", "relative_error")
        )
        told = error if tensor["sound"] else f"{error}  wrong"
        rows.append((tensor["name"], f"{tensor['count']:,}", derivative, told))
    size = f"{fields['image_size']} x {fields['image_size']} px, {fields['num_classes']:,} classes"
    limit = f"a relative error of {fields['limit']} or more is wrong"
    return f"{columns_text(rows)}\n{fields['network']}, {size}; {limit}"


def printable(text: str) -> str:
    """Escape what a terminal would obey: names of files may be written by whoever made them."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def columns_text(rows: Iterable[Sequence[str]]) -> str:
    """Align all columns but the last of each row; each row is one line."""
    rows = [[printable(cell) for cell in row] for row in rows]
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


def _accuracy(fields: dict[str, Any]) -> tuple[str, str, str]:
    shares = [
        f"{fields[name]:.4f} ({low:.4f}\N{EN DASH}{high:.4f})"
        for name in ("top1", "top5")
        for low, high in [fields[f"{name}_interval"]]
    ]
    return shares[0], shares[1], f"{fields['loss']:.4f}"


def _bytes(count: int) -> str:
    """Write a size as people read it: 1.4 GB."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
