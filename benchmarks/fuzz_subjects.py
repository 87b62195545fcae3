"""What is fuzzed: for each kind of input a way to make a broken one, and the code that reads it."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks import fuzz_samples as samples
from benchmarks.fuzz_mutations import (
    mutate,
    mutate_end,
    with_claimed_size,
    with_png_checksums,
    with_tar_checksums,
    with_wrong_tags,
)
from infra.store import FolderStore, MemoryStore
from preprocessing.dataset.manifest import Shard
from preprocessing.dataset.pixels import decode_image, decode_square, to_short_side, to_square
from preprocessing.dataset.schema import ShardReader, encoded_column
from preprocessing.dataset.stored import decode_stored
from preprocessing.errors import ImageRejected
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.archives import DEVKIT_ARCHIVE, SourceFile
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.devkit import read_devkit
from preprocessing.sources.fetch import read_members
from preprocessing.sources.index import scan_archive
from preprocessing.sources.source import read_index

SIDE_PX: Final = 64
_MAX_DECODED: Final = 8
"""Images of a case that are decoded too."""


def fuzz_tar(rng: random.Random, _: Path) -> None:
    """Index a tar, or a tar of tars."""
    nested = rng.random() < 0.5
    corpus = samples.nested_tars() if nested else samples.tars()
    store = MemoryStore()
    store.write("x.tar", _broken_tar(rng, rng.choice(corpus), corpus))
    info = store.stat("x.tar")
    if info is not None:
        scan_archive(store, SourceFile.of(info), nested=nested)


def fuzz_image(rng: random.Random, _: Path) -> None:
    """Decode an image and shape it."""
    corpus = samples.images()
    body = rng.choice(corpus)
    if rng.random() < 0.1:
        body = with_claimed_size(rng, body)
    if rng.random() < 0.4:
        body = with_wrong_tags(rng, body)
    if rng.random() < 0.6:
        body = mutate(rng, body, corpus)
    if body.startswith(b"\x89PNG") and rng.random() < 0.7:
        body = with_png_checksums(body)
    pixels = decode_image(body)
    to_square(pixels, SIDE_PX)
    decode_square(body, SIDE_PX)
    to_short_side(pixels, SIDE_PX)


def fuzz_devkit(rng: random.Random, _: Path) -> None:
    """Read a devkit that is broken in its packing, its tar, or one of its files."""
    meta, truth = rng.choice(samples.meta_mats()), b"1\n2\n3\n1\n"
    layer = rng.choice(("packed", "tar", "meta", "meta", "meta", "truth"))
    if layer == "meta":
        meta = mutate(rng, meta, samples.meta_mats())
    if layer == "truth":
        truth = mutate(rng, truth, [b"-1 99999999999999999999 1.5 \xff"])
    tar = samples.devkit_tar(meta, truth)
    if layer == "tar":
        tar = _broken_tar(rng, tar, samples.tars())
    body = samples.packed(tar)
    if layer == "packed":
        body = mutate(rng, body, [body])
    store = MemoryStore()
    store.write(DEVKIT_ARCHIVE, body)
    read_devkit(store)


def fuzz_pickle(rng: random.Random, folder: Path) -> None:
    """Unpack CIFAR-100 in miniature, one of whose three files is broken."""
    source = folder / "cifar"
    source.mkdir()
    broken = rng.choice(("meta", "train", "train", "test"))
    for name in ("meta", "train", "test"):
        corpus = samples.pickles("meta" if name == "meta" else "batch")
        body = rng.choice(corpus)
        (source / name).write_bytes(mutate(rng, body, corpus) if name == broken else body)
    _use(read_index(DatasetSettings(cifar=str(source)), PrepareSettings(), _workspace(folder)))


def fuzz_parquet(rng: random.Random, folder: Path) -> None:
    """Unpack a Hugging Face dataset, whose file for training, or both, is broken."""
    source, corpus = folder / "huggingface", samples.parquets()
    source.mkdir()
    body = _broken_parquet(rng, rng.choice(corpus))
    (source / "train.parquet").write_bytes(body)
    (source / "val.parquet").write_bytes(corpus[0] if rng.random() < 0.7 else body)
    dataset = DatasetSettings(huggingface=str(source))
    _use(read_index(dataset, PrepareSettings(), _workspace(folder)))


def fuzz_shard(rng: random.Random, folder: Path) -> None:
    """Read a shard of ours, of whose bytes only the size is what its manifest says."""
    body = _broken_parquet(rng, rng.choice(samples.shards()))
    (folder / "shard").write_bytes(body)
    shard = Shard(path="shard", size_bytes=len(body), sha256="0" * 64, start=0, stop=samples.ROWS)
    reader = ShardReader(FolderStore(folder), shard)
    try:
        for group in range(samples.ROWS // 2):
            for image in encoded_column(reader.read_groups([group])):
                decode_stored(image)
    finally:
        reader.close()


def fuzz_webdataset(rng: random.Random, folder: Path) -> None:
    """Index a WebDataset, whose tar for training, or both, is broken."""
    source, corpus = folder / "webdataset", samples.webdatasets()
    source.mkdir()
    body = _broken_tar(rng, rng.choice(corpus), corpus)
    (source / "train.tar").write_bytes(body)
    (source / "val.tar").write_bytes(corpus[0] if rng.random() < 0.7 else body)
    dataset = DatasetSettings(webdataset=str(source))
    _use(read_index(dataset, PrepareSettings(), _workspace(folder)))


SUBJECTS: Final[Mapping[str, Callable[[random.Random, Path], None]]] = {
    "tar": fuzz_tar,
    "image": fuzz_image,
    "devkit": fuzz_devkit,
    "pickle": fuzz_pickle,
    "parquet": fuzz_parquet,
    "shard": fuzz_shard,
    "webdataset": fuzz_webdataset,
}
"""Each ends without an error, or with a deliberate one."""


def _workspace(folder: Path) -> FolderStore:
    return FolderStore(folder / "workspace")


def _use(index: DatasetIndex) -> None:
    """Read what an index names, and decode some of it, as a build would."""
    for number, (_, body) in enumerate(read_members(index.store, index.members)):
        if number < _MAX_DECODED:
            try:
                decode_image(body)
            except ImageRejected:
                continue


def _broken_tar(rng: random.Random, body: bytes, corpus: tuple[bytes, ...] | list[bytes]) -> bytes:
    body = mutate(rng, body, corpus)
    return with_tar_checksums(body) if rng.random() < 0.8 else body


def _broken_parquet(rng: random.Random, body: bytes) -> bytes:
    """Break the footer, which no checksum protects, or anything."""
    if rng.random() < 0.5:
        footer_bytes = int.from_bytes(body[-8:-4], "little")
        return mutate_end(rng, body[:-8], footer_bytes) + body[-8:]
    return mutate(rng, body, [body])
