"""A call with an end: MLflow's own time-outs and retries take minutes."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

Answer = TypeVar("Answer")


def answer_within(timeout_s: float, ask: Callable[[], Answer]) -> Answer:
    """Return what a call returns, or raise what it raises; it runs in a thread of its own.

    Only for calls that read: what is no longer waited for may still be done.

    Raises:
        TimeoutError: no answer by then.
    """
    outcome: Future[Answer] = Future()

    def run() -> None:
        try:
            outcome.set_result(ask())
        except BaseException as error:  # raised below, in the thread that asked
            outcome.set_exception(error)

    # A daemon: the process may end before the call does.
    threading.Thread(target=run, name="mlflow-call", daemon=True).start()
    wait([outcome], timeout_s)
    if not outcome.done():
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    return outcome.result()
