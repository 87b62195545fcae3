"""`alexnet receipt`: the elements of 2012, where each is, what holds it, and what it is worth."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from alexnet.receipt.elements import read_elements
from alexnet.receipt.measured import TEN_CROPS, Effect, Measurements, View, effect
from alexnet.receipt.page import receipt_page
from infra.errors import DataError
from infra.progress import tell
from pipelines.output import print_fields

RESULTS: Final = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "receipt.json"
"""What `make bench-receipt` wrote; part of the checkout, and of nothing that is installed."""


def print_receipt(*, as_json: bool) -> None:
    """Print the receipt: as JSON, or as the Markdown page that `docs/receipt.md` is.

    What was measured lies in a checkout only; where it is missing, standard error says so.
    """
    measured = read_measurements(RESULTS)
    if measured is None:
        tell(sys.stderr, f"without our runs: there is no {RESULTS}; a checkout has it")
    if as_json:
        print_fields(receipt_fields(measured), as_json=True)
    else:
        sys.stdout.write(f"{receipt_page(measured)}\n")


def read_measurements(path: Path = RESULTS) -> Measurements | None:
    """Read what was measured; None where there is no such file.

    Raises:
        DataError: it is there and cannot be understood.
    """
    try:
        return Measurements.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(
            f"{path} is not a series of runs that this version reads: {error}",
            remedy="run `make bench-receipt` again: what was trained is found in its workspace",
        ) from error


def receipt_fields(measured: Measurements | None) -> dict[str, Any]:
    """Return what `alexnet receipt --json` prints."""
    elements = [
        {
            "group": group,
            "name": name,
            **element.model_dump(mode="json"),
            "measured": None
            if measured is None or element.ablation is None
            else _effects(element.ablation.name, measured),
        }
        for group, members in read_elements().items()
        for name, element in members.items()
    ]
    return {
        "elements": elements,
        "measurements": None if measured is None else measured.model_dump(mode="json"),
    }


def _effects(name: str, measured: Measurements) -> dict[str, Any] | None:
    views: tuple[View, ...] = ("ten_crop",) if name == TEN_CROPS else ("center", "ten_crop")
    found = {view: effect(measured.runs, name, view) for view in views}
    effects: dict[str, Any] = {view: _fields(one) for view, one in found.items() if one is not None}
    return effects or None


def _fields(found: Effect) -> dict[str, Any]:
    """Points of top-1 error; JSON has no NaN, so a single pair has no interval."""
    single = len(found.differences) < 2
    bounds = {"low": None, "high": None} if single else {}
    spread = None if single else found.spread
    return {**asdict(found), **bounds, "points": found.points, "spread": spread}
