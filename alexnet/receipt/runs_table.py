"""Runs with and without elements as Markdown: facts, differences with intervals, errors. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from alexnet.receipt.elements import ablations, read_elements
from alexnet.receipt.measured import BASELINE, TEN_CROPS, Effect, Measurements, View, effect

_VIEWS: Final[tuple[tuple[View, str], ...]] = (("center", "centre"), ("ten_crop", "ten crops"))
_EFFECT_HEAD: Final = (
    "left out", "view", "points lost", "95 % interval", "sd", "pairs", "published", "beside it",
)  # fmt: skip
_RUN_HEAD: Final = ("left out", "settings", "seed: errors")
_HOW_TO_READ: Final = (
    "Each pair shares its seed: the order, all augmentation, and the weights' start where leaving"
    " the element out changes no layer's shape (two-towers and overlapping-pooling do, and draw"
    " other weights). Of ten crops a seed's figure is the mean over its runs. The interval is that"
    " of the mean over seeds, by Student's t: so it tells one training from another, not these"
    " validation images from others. One error of 30 % on 500 images is uncertain by 2 points."
)


def measurements_text(measured: Measurements) -> str:
    """Write the facts of a series of runs, its effects and its single errors."""
    names = list(dict.fromkeys(run.element for run in measured.runs))
    compared = [*(name for name in names if name != BASELINE), TEN_CROPS]
    rows = [row for name in compared for row in _effect_rows(name, measured)]
    parts = [
        "\n".join(_facts(measured)),
        _HOW_TO_READ,
        markdown_table(_EFFECT_HEAD, rows),
        "Errors of the single runs, in images: top-1 and top-5 of the centre view, then ten crops.",
        markdown_table(_RUN_HEAD, [_run_row(name, measured) for name in names]),
        *(f"**{name} failed**: {problem}" for name, problem in measured.failures.items()),
    ]
    return "\n\n".join(parts)


def interval_text(found: Effect) -> str:
    """Write the 95 % interval, or that there is none."""
    if len(found.differences) < 2:
        return "one pair, no interval"
    return f"{found.low:+.1f} to {found.high:+.1f}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _effect_rows(name: str, measured: Measurements) -> Iterable[list[str]]:
    views = _VIEWS if name != TEN_CROPS else (("ten_crop", "centre instead"),)
    figure = _published_points(name)
    for view, label in views:
        found = effect(measured.runs, name, view)
        if found is None:
            continue
        pairs = ", ".join(f"{points:+.1f}" for points in found.differences.values())
        yield [
            name,
            label,
            f"{found.points:+.2f}",
            interval_text(found),
            "-" if len(found.differences) < 2 else f"{found.spread:.2f}",
            pairs,
            "-" if figure is None else f"{figure:+.2f}",
            "" if figure is None else found.beside(figure),
        ]


def _published_points(name: str) -> float | None:
    for group in read_elements().values():
        for element in group.values():
            if element.ablation is not None and element.ablation.name == name:
                return None if element.published is None else element.published.top1_points
    return None


def _run_row(name: str, measured: Measurements) -> list[str]:
    ablation = None if name == BASELINE else ablations()[name]
    left_out = () if ablation is None else ablation.settings
    settings = " ".join(f"`{one}`" for one in left_out)
    if ablation is not None and ablation.note is not None:
        settings += f"<br>{ablation.note}"
    cells = [
        f"{run.seed}: {run.center.wrong1} {run.center.wrong5},"
        f" {run.ten_crop.wrong1} {run.ten_crop.wrong5}"
        for run in measured.runs
        if run.element == name
    ]
    return [name, settings, "<br>".join(cells)]


def _facts(measured: Measurements) -> Iterable[str]:
    before, after = measured.load_average
    versions = ", ".join(f"{name} {number}" for name, number in measured.versions.items())
    steps = ", ".join(sorted({f"{run.steps:,}" for run in measured.runs})) or "no"
    yield (
        f"Recipe `{measured.recipe}` on {measured.archives}, {measured.train_count:,} training and"
        f" {measured.val_count:,} validation images (dataset {measured.dataset_fingerprint[:12]});"
        f" {steps} updates a run."
    )
    yield (
        f"{measured.machine}; {versions}; commit {measured.commit}; {measured.started_at},"
        f" {measured.elapsed_s / 60:.0f} min, load {before} before and {after} after."
    )
    digests = [f"{run.element} {run.seed} {run.recipe_digest[:12]}" for run in measured.runs]
    yield f"Recipe digests: {', '.join(digests)}."
