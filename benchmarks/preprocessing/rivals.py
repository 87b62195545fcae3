"""MosaicML Streaming and LitData, run by a Python that has them; what they need unpacked counts."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.preprocessing.measured import Measured
from benchmarks.preprocessing.sources import Source

CONVERTERS: Final = {
    "streaming, copy": "MosaicML Streaming's ImageNet converter: unpack, look at the header, copy"
    " the file; nothing is decoded",
    "streaming, square": "unpack, then MDSWriter on the pillow loop's squares, a process a worker",
    "litdata, square": "unpack, then litdata.optimize on the pillow loop's squares; the start of"
    " its workers counts",
}
PROGRAM: Final = Path(__file__).with_name("rival_program.py")


def take_rival(
    python: Path, converter: str, source: Source, workers: int, folder: Path
) -> tuple[Measured, dict[str, str]]:
    """Unpack and convert in a new process, whose start is not counted; also return versions.

    Raises:
        CalledProcessError: it failed; what it said is on standard error.
    """
    place = tempfile.mkdtemp(dir=folder)
    options = source.options
    words = [converter, workers, options.stored_px, options.quality, place, *source.tars]
    done = subprocess.run(
        [python, PROGRAM, *map(str, words)], stdout=subprocess.PIPE, check=True, text=True
    )
    shutil.rmtree(place)
    document = json.loads(done.stdout)
    measured = Measured(
        images=document["images"],
        elapsed_s=document["unpack_s"] + document["convert_s"],
        cpu_s=document["cpu_s"],
        cores=workers,
    )
    return measured, document["versions"]
