"""What is shown of a training while it runs: how far it is, and what Ray Train keeps to itself."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from infra.progress import NotedReport

log = logging.getLogger(__name__)

STILL_S: Final = 300.0
"""How long no step must have been reported before it is said: a compiler takes minutes."""
TROUBLE_S: Final = 10.0
"""How long nothing must have reached the tracker before it is said: one lost call is no trouble."""


# A dead metrics actor must neither end the training nor hide how it ended.
def ask(
    method: Any,  # noqa: ANN401 - an actor's method, untyped
    *arguments: object,
    within_s: float | None = None,
) -> Any:  # noqa: ANN401
    """Call the metrics actor; None when it is dead, or has not answered within so long.

    It does one thing at a time, and waits for minutes where a store is away.
    """
    try:
        return ray.get(method.remote(*arguments), timeout=within_s)
    except (RayActorError, GetTimeoutError) as error:
        log.warning("metrics_actor_away problem=%s", error)
        return None


class Watch:
    """Asks the metrics actor, and tells whoever watches.

    Args:
        sink: the metrics actor.
        num_images: images of the whole training.
        progress: called at each look; its note says when the workers started again.
        say: told in a line why an attempt ended, that no step is reported for long, that the
            tracker takes no points any more, and that it does again.
    """

    def __init__(
        self,
        sink: "ray.ActorHandle[Any]",
        *,
        num_images: int,
        progress: NotedReport,
        say: Callable[[str], None],
    ) -> None:
        self._sink = sink
        self._num_images = num_images
        self._progress = progress
        self._say = say
        self._told: set[int] = set()
        self._step: int | None = None
        self._moved_at = time.monotonic()
        self._longest_s = 0.0
        """Between two reports: where one takes minutes, it is no news that the next does."""
        self._still_is_said = False
        self._trouble_since: float | None = None
        self._trouble_is_said = False
        self.crash: str | None = None
        """The last attempt's traceback, whole: Ray Train's own error has its beginning and end."""

    def look(self) -> None:
        """Look once."""
        position = ask(self._sink.position)
        if position is not None:  # nor is it while the actor is dead
            self._progress(position[1], self._num_images, _restarts(ask(self._sink.starts)))
            self._tell_trouble(ask(self._sink.problem))
        self._tell_still(self._step if position is None else position[0])
        self.tell_crashes()

    def tell_crashes(self) -> None:
        """Say in a line why each attempt ended that did since; Ray Train does not."""
        found: dict[int, str] = ask(self._sink.crashes) or {}
        for attempt in sorted(found.keys() - self._told):
            self._told.add(attempt)
            self.crash = found[attempt]
            name = f"attempt {attempt}" if attempt else "an attempt that had no number yet"
            self._say(f"{name} ended: {_reason(self.crash)}")

    def _tell_still(self, step: int | None) -> None:
        now = time.monotonic()
        if step != self._step:
            self._longest_s = max(self._longest_s, now - self._moved_at)
            self._step, self._moved_at, self._still_is_said = step, now, False
        still_s = now - self._moved_at
        if not self._still_is_said and still_s >= max(STILL_S, 2 * self._longest_s):
            self._still_is_said = True
            last = "" if step is None else f" after step {step:,}"
            self._say(
                f"no step was reported for {still_s / 60:.0f} minutes{last}: if neither GPUs nor"
                " CPUs are at work, its reading tasks may find no CPU (on a cluster see"
                " `ray status`)"
            )

    def _tell_trouble(self, problem: str | None) -> None:
        if problem is None:
            if self._trouble_is_said:
                self._say("MLflow takes points again")
            self._trouble_since, self._trouble_is_said = None, False
            return
        now = time.monotonic()
        self._trouble_since = now if self._trouble_since is None else self._trouble_since
        if not self._trouble_is_said and now - self._trouble_since >= TROUBLE_S:
            self._trouble_is_said = True
            self._say(f"MLflow takes no points, which are kept and sent later: {problem}")


def _reason(crash: str) -> str:
    """Return the line of a traceback that names the error; advice often follows it."""
    lines = crash.strip().splitlines()
    frames = [i for i, line in enumerate(lines) if line.startswith("  File ")]
    after = (line for line in lines[frames[-1] if frames else -1 :] if not line.startswith(" "))
    return next(after, lines[-1])


def _restarts(starts: list[int] | None) -> str:
    """Say so if the workers died and started again."""
    if not starts or len(starts) == 1:
        return ""
    return f"workers started {len(starts)} times, last from step {starts[-1]:,}"
