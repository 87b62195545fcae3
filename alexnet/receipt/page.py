"""The receipt as Markdown: elements in tables, then the runs that measured some of them. Pure."""

from typing import Final

from alexnet.receipt.elements import Ablation, Element, read_elements
from alexnet.receipt.measured import Effect, Measurements, effect
from alexnet.receipt.runs_table import interval_text, markdown_table, measurements_text

NOT_YET: Final = "not yet"
_HEAD: Final = ("", "what it is", "here", "held by", "published or logged", "our runs")
_INTRODUCTION: Final = """\
# The 2012 receipt

What the network of 2012 and its training consist of, element by element: where each is here, which
test fails if it is not so, what it was said or logged to be worth, and what it is worth in our own
runs. `alexnet receipt` prints this page. The table is `alexnet/receipt/elements.yaml`; our figures
come from `benchmarks/results/receipt.json`, which `make bench-receipt` writes, and from nowhere
else.

Errors are in percent, top-1 / top-5. Points are of top-1 error over ten crops: above 0 the element
helps. Files named without a link are those of the source that was released in 2025 (`layers/…`,
`src/…`, `convnet.py` and others); "paper" is Krizhevsky, Sutskever, Hinton, NIPS 2012."""


def receipt_page(measured: Measurements | None) -> str:
    """Write the whole page.

    Args:
        measured: none where there are no runs: then nothing is measured yet.
    """
    parts = [_INTRODUCTION, _summary(measured)]
    for group, elements in read_elements().items():
        rows = [_row(name, element, measured) for name, element in elements.items()]
        parts += [f"## {group}", markdown_table(_HEAD, rows)]
    runs = "None yet." if measured is None else measurements_text(measured)
    return "\n\n".join([*parts, "## The runs", runs])


def measured_words(element: Element, measured: Measurements | None) -> str:
    """Say in words what an element is worth in our runs, or why that is not known."""
    found = _effect(element.ablation, measured)
    if found is None:
        return NOT_YET if element.unmeasured is None else f"{NOT_YET}: {element.unmeasured}"
    said = f"{found.points:+.1f} points, {interval_text(found)}"
    figure = _figure(element)
    if figure is None:
        return said
    verdict = found.beside(figure)
    return f"{said}: **{verdict}**" if verdict == "contradicts" else f"{said}: {verdict}"


def _summary(measured: Measurements | None) -> str:
    every = [element for group in read_elements().values() for element in group.values()]
    known = [one for one in every if _effect(one.ablation, measured) is not None]
    figures = [one for one in known if _figure(one) is not None]
    against = [one for one in figures if "contradicts" in measured_words(one, measured)]
    return (
        f"{len(every)} elements; of {len(known)} the effect is measured, {len(figures)} of these\n"
        f"have a published figure, which ours contradicts in {len(against)}. What is not measured"
        f" says `{NOT_YET}`."
    )


def _row(name: str, element: Element, measured: Measurements | None) -> list[str]:
    says = element.says if element.paper is None else f"{element.says} *Paper:* {element.paper}"
    published = element.published
    return [
        f"**{name}**",
        f"{says} ({element.source})",
        "<br>".join(map(_link, element.code)),
        "<br>".join(map(_link, element.tests)),
        "-" if published is None else f"{published.what} ({published.source})",
        _measured_cell(element, measured),
    ]


def _measured_cell(element: Element, measured: Measurements | None) -> str:
    words, ablation = measured_words(element, measured), element.ablation
    if ablation is None or ablation.note is None:
        return words
    return f"{words}<br>*Note:* {ablation.note}"


def _link(reference: str) -> str:
    path, _, symbol = reference.partition("::")
    return f"[`{symbol}`](../{path})"


def _figure(element: Element) -> float | None:
    return None if element.published is None else element.published.top1_points


def _effect(ablation: Ablation | None, measured: Measurements | None) -> Effect | None:
    """Return the effect on the error over ten crops, which is what the release's logs give."""
    if ablation is None or measured is None:
        return None
    return effect(measured.runs, ablation.name, "ten_crop")
