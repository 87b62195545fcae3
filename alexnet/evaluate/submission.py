"""ILSVRC's file of answers: a line an image, five ids a line, best first. Pure.

The ids are the development kit's ILSVRC2012_ID, from 1 to 1000. They follow neither the order of
the WNIDs nor that of our labels, which are ranks of the sorted WNIDs from 0 on.

Source: the release's `txt-preds.py` and `verify-test-preds.py`; readme.txt of the development kit.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from infra.errors import DataError
from preprocessing.dataset.labels import Classes

A_LINE: Final = 5
_OFFICIAL: Final = re.compile(r"ILSVRC2012_(val|test)_(\d{8})\.JPEG")
_ID: Final = re.compile(rb"0*[1-9]\d{0,8}")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Errors:
    """What a file of answers gets wrong."""

    count: int
    wrong1: int
    wrong5: int


def ids_by_label(classes: Classes, ids: Mapping[str, int]) -> Ints:
    """Return each label's id, (classes,).

    Args:
        classes: those of the network.
        ids: ILSVRC2012_ID by WNID, of the development kit.

    Raises:
        DataError: a class has none, or there are fewer than five classes.
    """
    unknown = [entry.wnid for entry in classes.classes if entry.wnid not in ids]
    if unknown:
        raise DataError(
            f"{len(unknown):,} of the network's {len(classes):,} classes have no ILSVRC2012_ID in"
            f" this development kit, {unknown[0]!r} first",
            remedy="name the development kit of the archives it was trained on; classes of folders"
            " of your own have no such ids",
        )
    if len(classes) < A_LINE:
        raise DataError(
            f"the network tells {len(classes)} classes apart, and a line holds {A_LINE} ids",
            remedy="`alexnet predict MODEL IMAGES --output FILE` writes as many as there are",
        )
    return np.array([ids[entry.wnid] for entry in classes.classes], np.int64)


def name_order(names: Sequence[str]) -> Ints:
    """Return the rows of images in the order of their names, (n,).

    Raises:
        DataError: a name stands twice; or there are official names and not all from 1 on.
    """
    order = sorted(range(len(names)), key=lambda row: names[row])
    matches = [_OFFICIAL.fullmatch(names[row]) for row in order]
    if any(matches):
        for place, (row, match) in enumerate(zip(order, matches, strict=True), start=1):
            if match is None or int(match[2]) != place or match[1] != _kind(matches):
                raise DataError(
                    f"image {place} should be ILSVRC2012_{_kind(matches)}_{place:08}.JPEG and is"
                    f" {names[row]}",
                    remedy="name all images of the set and no others: lines are told apart by"
                    " their number",
                )
    elif len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(
            f"two images are called {twice}: their order is not known",
            remedy="put the images into one folder",
        )
    return np.array(order, np.int64)


def _kind(matches: Sequence[re.Match[str] | None]) -> str:
    return next(match[1] for match in matches if match)


def submission_text(ids: Ints) -> bytes:
    """Write a line an image, (n, 5) ids with blanks between."""
    return "".join(f"{' '.join(map(str, row))}\n" for row in ids.tolist()).encode()


def parse_submission(text: bytes, name: str) -> Ints:
    """Read what `submission_text` writes, (n, 5); blank lines at the end are nothing.

    Raises:
        DataError: a line is not five ids; says which.
    """
    rows = []
    for number, line in enumerate(text.rstrip().split(b"\n"), start=1):
        words = line.split()
        if len(set(words)) < len(words) == A_LINE:
            raise DataError(
                f"{name}: line {number:,} has an id twice, {line[:60].decode(errors='replace')!r}",
                remedy="write it with `alexnet submission`",
            )
        if len(words) != A_LINE or not all(map(_ID.fullmatch, words)):
            raise DataError(
                f"{name}: line {number:,} is {line[:60].decode(errors='replace')!r}, not"
                f" {A_LINE} ids from 1 on",
                remedy="write it with `alexnet submission`",
            )
        rows.append([int(word) for word in words])
    return np.array(rows, np.int64)


def count_errors(ids: Ints, truth: Ints) -> Errors:
    """Hold (n, 5) ids against (n,) true ones.

    Raises:
        DataError: there are not as many lines as images.
    """
    if len(ids) != len(truth):
        raise DataError(
            f"{len(ids):,} lines of answers, and a ground truth of {len(truth):,} images",
            remedy="name the ground truth of the same images",
        )
    hits = ids == truth[:, None]
    return Errors(len(truth), int((~hits[:, 0]).sum()), int((~hits.any(axis=1)).sum()))
