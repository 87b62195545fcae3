import subprocess
import sys

import pytest

WAIT = """
import time
from alexnet.train import stop
stop.EVERY_S = 0.05
with stop.ending_when(lambda: {stopped}):
    time.sleep({seconds})
print("done", flush=True)
"""


@pytest.mark.parametrize(
    ("stopped", "seconds", "expected"), [("True", 60, (1, "")), ("False", 0.2, (0, "done"))]
)
def test_a_process_ends_when_it_is_told_to_and_only_then(
    stopped: str, seconds: float, expected: tuple[int, str]
) -> None:
    code = WAIT.format(stopped=stopped, seconds=seconds)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (process.returncode, process.stdout.strip()) == expected
