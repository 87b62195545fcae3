"""Small real archives in the official layout, and ways to break them."""

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

TRAIN = "ILSVRC2012_img_train.tar"
VAL = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
NO_IMAGE = b"\xff\xd8 this is no image"

Files = Iterable[tuple[str, bytes]]


def make_jpeg(seed: int, width: int = 40, height: int = 30) -> bytes:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(out, "JPEG", quality=90)
    return out.getvalue()


def make_tar(files: Files, format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, body in files:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


def make_meta_mat(words: Mapping[str, str]) -> bytes:
    """Leaves with ids against the order of the keys, one ancestor that is none."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "num_children", "wordnet_height")
    rows = [(i, wnid, words[wnid], 0, 2) for wnid, i in ids_of(words).items()]
    rows.append((len(rows) + 1, "n00000000", "entity", len(rows), 0))
    out = io.BytesIO()
    synsets = np.array([[row] for row in rows], dtype=[(field, object) for field in fields])
    scipy.io.savemat(out, {"synsets": synsets})
    return out.getvalue()


def ids_of(words: Iterable[str]) -> dict[str, int]:
    """The devkit's id of each class: the last key has 1."""
    return {wnid: i for i, wnid in enumerate(sorted(words, reverse=True), 1)}


def make_devkit(words: Mapping[str, str], val_ids: Sequence[int]) -> bytes:
    """The devkit's archive."""
    folder = "ILSVRC2012_devkit_t12/data"
    truth = "\n".join(str(synset_id) for synset_id in val_ids).encode()
    return gzip.compress(
        make_tar(
            [
                (f"{folder}/meta.mat", make_meta_mat(words)),
                (f"{folder}/ILSVRC2012_validation_ground_truth.txt", truth),
            ]
        )
    )


def write_archives(
    folder: Path,
    *,
    num_classes: int = 2,
    train_per_class: int = 6,
    num_val: int = 4,
    bad: Iterable[int] = (),
) -> Path:
    """Write the three archives; `bad` are training images (counted over all) that do not decode."""
    folder.mkdir(parents=True, exist_ok=True)
    wnids = [f"n{10 + i:08}" for i in range(num_classes)]
    bad = set(bad)
    inner = []
    for c, wnid in enumerate(wnids):
        numbers = range(c * train_per_class, (c + 1) * train_per_class)
        files = [(f"{wnid}_{i}.JPEG", NO_IMAGE if i in bad else make_jpeg(i)) for i in numbers]
        inner.append((f"{wnid}.tar", make_tar(files)))
    ids = ids_of(wnids)
    val_ids = [ids[wnids[i % num_classes]] for i in range(num_val)]
    val = [(f"ILSVRC2012_val_{i + 1:08}.JPEG", make_jpeg(1000 + i)) for i in range(num_val)]
    (folder / TRAIN).write_bytes(make_tar(inner))
    (folder / VAL).write_bytes(make_tar(val))
    words = {wnid: f"thing {wnid}" for wnid in wnids}
    (folder / DEVKIT).write_bytes(make_devkit(words, val_ids))
    return folder


def cut(path: Path, size_bytes: int) -> None:
    """Keep the first bytes of a file."""
    path.write_bytes(path.read_bytes()[:size_bytes])
