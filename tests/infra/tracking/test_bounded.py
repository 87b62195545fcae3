import threading
import time

import pytest

from infra.tracking.bounded import answer_within


def test_an_answer_or_an_error_comes_back() -> None:
    assert answer_within(5, lambda: threading.current_thread().name) == "mlflow-call"
    with pytest.raises(ZeroDivisionError):
        answer_within(5, lambda: 1 / 0)


def test_a_silent_call_is_given_up_and_holds_nothing_up() -> None:
    done = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        answer_within(0.1, lambda: done.wait(30))
    assert time.monotonic() - started < 5
    done.set()
