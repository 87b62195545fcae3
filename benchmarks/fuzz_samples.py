"""Small sound files of every kind that the pipeline reads: what a fuzzer begins with."""

import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
from PIL import ExifTags, Image

from preprocessing.dataset.schema import open_shard_writer, shard_schema
from preprocessing.dataset.stored import encode_jpeg, encode_raw
from preprocessing.sources.devkit import GROUND_TRUTH, META
from preprocessing.sources.drawn_images import draw, draw_jpeg, generator

NAMES: Final = ("cat", "dog", "owl")
ROWS: Final = 6


@cache
def images() -> Sequence[bytes]:
    """One image file of each kind that is decoded; ordinary JPEGs come first."""
    picture = Image.fromarray(draw(0, generator(0)))
    greys = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) << 8)
    exif = _exif()
    kinds = [
        ("JPEG", picture, {"progressive": True}),
        ("JPEG", picture.convert("L"), {}),
        ("JPEG", picture.convert("CMYK"), {}),
        ("JPEG", picture, {"exif": exif, "restart_marker_rows": 1}),
        ("MPO", picture, {"exif": exif}),
        ("PNG", picture, {"exif": exif}),
        ("PNG", picture.convert("P"), {}),
        ("PNG", picture.convert("LA"), {}),
        ("PNG", greys, {}),
        ("GIF", picture, {}),
        ("BMP", picture, {}),
        ("WEBP", picture, {"exif": exif}),
        ("TIFF", picture, {"exif": exif}),
        ("TIFF", greys, {}),
        ("TIFF", picture, {"compression": "tiff_lzw"}),
        ("PPM", picture, {}),
        ("PPM", picture.convert("L"), {}),
        ("PPM", greys, {}),
    ]
    bodies = [draw_jpeg(label, generator(label)) for label in range(3)]
    for format, image, options in kinds:
        out = io.BytesIO()
        image.save(out, format, **options)
        bodies.append(out.getvalue())
    return tuple(bodies)


def _exif() -> Image.Exif:
    """Say what a camera says that was held upright."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = exif[ExifTags.Base.Make] = "a picture"
    exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = 72.0
    exif[ExifTags.Base.ResolutionUnit] = 2
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 0.01
    return exif


@cache
def tars() -> Sequence[bytes]:
    """Plain tars of every format, then tars of tars."""
    plain = [_tar(_files(), format) for format in _FORMATS]
    long = [(f"{'folder/' * 30}{name}", body) for name, body in _files()]
    plain += [_tar(long, format) for format in _FORMATS[1:]]
    return (*plain, *nested_tars())


@cache
def nested_tars() -> Sequence[bytes]:
    """Tars of tars, as ImageNet's for training."""
    inner = [(f"n{number:08}.tar", _tar(_files(), _FORMATS[number])) for number in range(3)]
    return tuple(_tar(inner, format) for format in _FORMATS)


@cache
def webdatasets() -> Sequence[bytes]:
    """Tars of images and labels."""
    with_cls, with_json = [], []
    for number in range(ROWS):
        image, label = (f"{number:03}.jpg", images()[number % 3]), number % 3
        with_cls += [image, (f"{number:03}.cls", b"%d" % label)]
        with_json += [image, (f"{number:03}.json", json.dumps({"label": label}).encode())]
    return tuple(_tar(files, form) for files in (with_cls, with_json) for form in _FORMATS)


@cache
def meta_mats() -> Sequence[bytes]:
    """MATLAB files of four synsets, plain and compressed."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    rows = [(i + 1, f"n{i:08}", name, 0) for i, name in enumerate(NAMES)]
    rows.append((4, "n00000009", "animal", 3))
    synsets = np.array([[row] for row in rows], dtype=[(field, object) for field in fields])
    bodies = []
    for compressed in (False, True):
        out = io.BytesIO()
        scipy.io.savemat(out, {"synsets": synsets}, do_compression=compressed)  # type: ignore[arg-type]  # stubs know no files
        # The header would hold the time.
        bodies.append(b"MATLAB 5.0".ljust(116) + out.getvalue()[116:])
    return tuple(bodies)


def devkit_tar(meta_mat: bytes, truth: bytes = b"1\n2\n3\n1\n") -> bytes:
    """Make the tar of a devkit, not packed yet."""
    files = [("kit/readme.txt", b"words"), (f"kit/{META}", meta_mat)]
    return _tar([*files, (f"kit/{GROUND_TRUTH}", truth)], tarfile.GNU_FORMAT)


def packed(tar: bytes) -> bytes:
    """Pack a devkit."""
    return gzip.compress(tar, 1, mtime=0)


@cache
def pickles(kind: str) -> Sequence[bytes]:
    """CIFAR-100's files in miniature: `meta` or a `batch`, of several protocols."""
    rng = np.random.default_rng(0)
    batch = {
        "fine_labels": [i % 3 for i in range(ROWS)],
        "data": rng.integers(0, 256, (ROWS, 3072), np.uint8),
        "filenames": [f"{i}.png" for i in range(ROWS)],
    }
    value = {"fine_label_names": list(NAMES)} if kind == "meta" else batch
    return tuple(pickle.dumps(value, protocol) for protocol in (0, 1, 2, 4, 5))


@cache
def parquets() -> Sequence[bytes]:
    """Hugging Face's image datasets, written in several ways."""
    ways = [
        {"compression": "NONE", "use_dictionary": False},
        {"compression": "NONE", "use_dictionary": False, "data_page_version": "2.0"},
        {"compression": "snappy"},
        {"compression": "zstd", "data_page_size": 1024},
        {"compression": "gzip", "use_dictionary": False},
        {"compression": "lz4", "column_encoding": {"label": "DELTA_BINARY_PACKED"}},
    ]
    for way in ways:
        way.setdefault("use_dictionary", "column_encoding" not in way)
    bodies = []
    for way in ways:
        out = io.BytesIO()
        pq.write_table(_table(images()), out, row_group_size=4, **way)
        bodies.append(out.getvalue())
    return tuple(bodies)


@cache
def shards() -> Sequence[bytes]:
    """Our own shards, of JPEGs and of raw pixels."""
    pixels = [draw(i % 3, generator(i))[:48, :48] for i in range(ROWS)]
    bodies = []
    for encode in (lambda image: encode_jpeg(image, 90), encode_raw):
        out = io.BytesIO()
        table = _table([encode(image) for image in pixels])
        with open_shard_writer(out, shard_schema(NAMES)) as writer:
            for start in range(0, ROWS, 2):
                writer.write_table(table.slice(start, 2), 2)
        bodies.append(out.getvalue())
    return tuple(bodies)


def _table(bodies: Sequence[bytes]) -> pa.Table:
    rows = [
        {
            "image": {"bytes": body, "path": f"{i}.jpg"},
            "label": i % 3,
            "sample_id": i,
            "wnid": f"n{i % 3:08}",
            "height": 48,
            "width": 48,
        }
        for i, body in enumerate(bodies[:ROWS])
    ]
    return pa.Table.from_pylist(rows, schema=shard_schema(NAMES))


_FORMATS: Final = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def _files() -> list[tuple[str, bytes]]:
    return [(f"bild-ö-{number}.JPEG", body) for number, body in enumerate(images()[:3])]


def _tar(files: Iterable[tuple[str, bytes]], format: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, body in files:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()
