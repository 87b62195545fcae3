"""The elements of the 2012 network and its training, as `elements.yaml` beside this lists them."""

from functools import cache
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import Field, TypeAdapter

from infra.commit import Frozen

TABLE: Final = Path(__file__).with_name("elements.yaml")

Reference = Annotated[str, Field(pattern=r"^[\w./-]+::[\w.]+$")]
"""A file and a name in it: `alexnet/model/init.py::RELEASE`; of a recipe, a key."""


class Published(Frozen):
    """What the paper says, or a log of the release shows, that an element is worth."""

    what: str
    """The figures, errors in percent, top-1 / top-5."""
    source: str
    """Sections of the paper, or files of the release."""
    top1_points: float | None = None
    """Points of top-1 error that are lost where the element is left out; none: no figure."""


class Ablation(Frozen):
    """How its effect is measured: the receipt's recipe, trained with and without it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    """What `python -m benchmarks.receipt --elements` calls it."""
    settings: tuple[str, ...] = Field(default=(), strict=False)
    """`--set` that leave it out; none: both figures come from one evaluation, as of ten crops."""
    note: str | None = None
    """What else these settings change."""


class Element(Frozen):
    """One thing that the original did, and that is here."""

    says: str
    """What the released source does."""
    paper: str | None = None
    """What the paper's text says, where it says something else."""
    source: str
    """Where that stands: files of the release, sections of the paper."""
    code: tuple[Reference, ...] = Field(min_length=1, strict=False)
    """Where it is here."""
    tests: tuple[Reference, ...] = Field(min_length=1, strict=False)
    """What fails if it is not so."""
    published: Published | None = None
    """What it is worth; none: no figure is known."""
    ablation: Ablation | None = None
    """How that is measured here; none: it is not."""
    unmeasured: str | None = None
    """Why there is no ablation, where one would be expected."""


_ELEMENTS: Final = TypeAdapter(dict[str, dict[str, Element]])


@cache
def read_elements() -> dict[str, dict[str, Element]]:
    """Return the elements by name, in groups, in the order of an image's way.

    Raises:
        ValidationError: the table has something that it should not.
    """
    return _ELEMENTS.validate_python(yaml.safe_load(TABLE.read_text("utf-8")))


def ablations() -> dict[str, Ablation]:
    """Return how effects are measured, by the ablations' names."""
    return {
        element.ablation.name: element.ablation
        for group in read_elements().values()
        for element in group.values()
        if element.ablation is not None
    }
