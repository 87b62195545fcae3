"""Run by another Python, which has MosaicML Streaming and LitData: unpack tars, then convert.

    python rival_program.py CONVERTER WORKERS SIDE QUALITY FOLDER TAR... > one JSON document

Imports nothing of this project.
"""

import io
import json
import os
import resource
import sys
import tarfile
import time
from contextlib import redirect_stdout
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

_IMAGES = (".jpeg", ".jpg")


def unpack(tars: list[str], folder: Path) -> list[str]:
    """Write every image of tars, and of tars in them, to a folder per class; return the paths."""
    paths: list[str] = []
    for tar in tars:
        with tarfile.open(tar) as archive:
            _unpack(archive, Path(tar).stem, folder, paths)
    return paths


def _unpack(archive: tarfile.TarFile, name: str, folder: Path, paths: list[str]) -> None:
    target = folder / name
    target.mkdir(parents=True)
    for member in archive:
        file = archive.extractfile(member)
        if file is None:
            continue
        if member.name.endswith(".tar"):
            with tarfile.open(fileobj=file) as inner:
                _unpack(inner, Path(member.name).stem, folder, paths)
        elif member.name.lower().endswith(_IMAGES):
            path = target / Path(member.name).name
            path.write_bytes(file.read())
            paths.append(str(path))


def square(path: str, side: int, quality: int) -> bytes | None:
    """Decode, scale, cut and encode as torchvision's Resize and CenterCrop do, on Pillow images."""
    try:
        image = Image.open(path).convert("RGB")
    except OSError:
        return None
    short = min(image.size)
    width, height = (int(side * length / short) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    out = io.BytesIO()
    image.crop((left, top, left + side, top + side)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def streaming_copy(paths: list[str], out: Path, workers: int, side: int, quality: int) -> int:
    """As streaming/vision/convert/imagenet.py: look at the header, copy the file's bytes."""
    from streaming import MDSWriter

    columns = {"i": "int", "x": "jpeg", "y": "int"}
    with MDSWriter(out=str(out), columns=columns, hashes=["sha1", "xxh64"]) as writer:
        for number, path in enumerate(paths):
            try:
                Image.open(path).close()
            except OSError:
                continue
            writer.write({"i": number, "x": Path(path).read_bytes(), "y": number % 10})
    return len(paths)


def streaming_square(paths: list[str], out: Path, workers: int, side: int, quality: int) -> int:
    """Write squares with MDSWriter: a process a worker, each its part, as its guide advises."""
    parts = [(paths[rank::workers], str(out / str(rank)), side, quality) for rank in range(workers)]
    if workers == 1:
        return _write_mds(parts[0])
    with get_context("fork").Pool(workers) as pool:
        return sum(pool.map(_write_mds, parts))


def _write_mds(part: tuple[list[str], str, int, int]) -> int:
    from streaming import MDSWriter

    paths, out, side, quality = part
    columns = {"i": "int", "x": "bytes", "y": "int"}
    done = 0
    with MDSWriter(out=out, columns=columns, hashes=["sha1", "xxh64"]) as writer:
        for number, path in enumerate(paths):
            body = square(path, side, quality)
            if body is not None:
                writer.write({"i": number, "x": body, "y": number % 10})
                done += 1
    return done


def litdata_square(paths: list[str], out: Path, workers: int, side: int, quality: int) -> int:
    """Write squares with `litdata.optimize`."""
    from litdata import optimize

    optimize(
        fn=partial(_lit_sample, side=side, quality=quality),
        inputs=paths,
        output_dir=str(out),
        chunk_bytes="64MB",
        num_workers=workers,
        verbose=False,
    )
    return len(paths)


def _lit_sample(path: str, side: int, quality: int) -> dict[str, object] | None:
    body = square(path, side, quality)
    return None if body is None else {"image": body, "label": 0}


CONVERTERS = {
    "streaming, copy": streaming_copy,
    "streaming, square": streaming_square,
    "litdata, square": litdata_square,
}


def cpu_s() -> float:
    """Return the CPU time of this process and of its children that ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, kinds))


def main(arguments: list[str]) -> None:
    """Unpack and convert; print the seconds of both."""
    name, workers, side, quality, folder, *tars = arguments
    convert = CONVERTERS[name]
    # Their start is not counted, as ours is not.
    import litdata
    import streaming

    with redirect_stdout(sys.stderr):
        cpu, started = cpu_s(), time.perf_counter()
        paths = unpack(tars, Path(folder, "files"))
        unpacked = time.perf_counter()
        images = convert(paths, Path(folder, "out"), int(workers), int(side), int(quality))
        ended = time.perf_counter()
    document = {
        "images": images,
        "unpack_s": unpacked - started,
        "convert_s": ended - unpacked,
        "cpu_s": cpu_s() - cpu,
        "versions": {"litdata": litdata.__version__, "mosaicml-streaming": streaming.__version__},
    }
    print(json.dumps(document))
    sys.stdout.flush()
    os._exit(0)  # LitData leaves threads behind


if __name__ == "__main__":
    main(sys.argv[1:])
