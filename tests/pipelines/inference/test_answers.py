import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from alexnet.inference.inputs import find_parts
from infra.progress import StatusLine
from infra.store import FolderStore
from pipelines.inference import answers
from preprocessing.dataset.stored import encode_jpeg


class Slow:
    """Answers a task in a second."""

    num_views = 1

    def runner(self, trained: Any, *, num_threads: int) -> "Slow":
        return self

    def run(self, parts: Sequence[Any]) -> Iterator[pa.Table]:
        threading.Event().wait(1)
        yield pa.table({"path": [part.path for part in parts]})


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
# Ray's own, when it makes its context.
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray.data.context")
def test_no_thread_of_ray_data_is_left_when_whoever_reads_the_answers_fails(
    tiny_training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray, shut down beneath one, ends the process without a word."""
    left: list[threading.Thread] = []
    before = threading.enumerate()

    @contextmanager
    def session() -> Iterator[None]:
        try:
            yield
        finally:
            now = set(threading.enumerate()).difference(before)
            left.extend(thread for thread in now if isinstance(thread, StreamingExecutor))

    (tmp_path / "a.jpg").write_bytes(encode_jpeg(np.zeros((40, 40, 3), np.uint8), 90))
    parts = find_parts([str(tmp_path / "a.jpg")]) * 640
    monkeypatch.setattr(answers, "MANY", 2)
    monkeypatch.setattr(answers, "ray_session", session)
    stream, spec = io.StringIO(), Slow()
    progress, here = StatusLine("features", stream), FolderStore(tmp_path)

    def read_half() -> None:
        with answers.answered(
            "", tiny_training.trained, parts, spec, here, progress, stream
        ) as tables:
            for _ in tables:
                raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        read_half()
    assert not left
