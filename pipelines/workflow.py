"""A workflow: typed steps in order; what already holds is not done again.

Every step finds its product by a key made of its inputs, or makes it under a lease on that key's
folder. Retry, resume, reuse and concurrency all follow from this one rule.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from infra.claims import Claim
from infra.lease import Lease, hold_lease
from infra.store import ObjectStore
from pipelines.context import Context

Product = TypeVar("Product")
Done = Literal["holds", "ran"]
State = Literal["holds", "ran", "would-run"]


class Step(ABC, Generic[Product]):
    """One stage: finds its product, or makes it from the products of the steps before it."""

    name: ClassVar[str]

    def __init__(self, context: Context) -> None:
        self.context = context
        self._product: Product | None = None
        self._lease: Lease | None = None

    @property
    def product(self) -> Product:
        """What the step found or made; only after it has."""
        if self._product is None:
            raise RuntimeError(f"{self.name} has not run yet")
        return self._product

    @property
    def is_done(self) -> bool:
        """Tell whether the step has its product."""
        return self._product is not None

    @abstractmethod
    def folder(self) -> ObjectStore:
        """Return the folder of this step's key: needs the products before it."""

    @abstractmethod
    def find(self) -> Product | None:
        """Return the product if it is committed and verifies, None if it is not committed."""

    @abstractmethod
    def make(self) -> Product:
        """Make and commit the product."""

    @abstractmethod
    def fields(self, product: Product) -> dict[str, Any]:
        """Return what `--json` shows of the product."""

    def catch_up(self) -> None:
        """Do what an outage left undone of a product that holds. Nothing by default."""

    @property
    def lease(self) -> Lease:
        """The right to make the product; only while it is made."""
        if self._lease is None:
            raise RuntimeError(f"{self.name} holds no lease")
        return self._lease

    @property
    def was_taken_over(self) -> bool:
        """Tell whether another process does this step's work now."""
        return self._lease is not None and self._lease.lost

    def check_early(self) -> None:
        """Refuse, before anything is even looked at, what is sure to fail. Nothing by default."""

    def check(self) -> None:
        """Refuse, before any step runs, what could only fail later. Nothing by default."""

    def check_cluster(self) -> None:
        """Refuse what the cluster cannot hold; may start Ray. Nothing by default."""

    def check_products(self) -> None:
        """Refuse what is sure to fail, as far as products of the steps before tell it already.

        Asked before each step that does not hold. Nothing by default.
        """

    def look(self) -> bool:
        """Find the product and keep it; tell whether there is one."""
        self._product = self.find()
        return self._product is not None

    def ensure(self, before_making: Callable[[], None]) -> Done:
        """Find the product or make it; only one process makes it, others wait for it.

        Args:
            before_making: called when it is certain that this process makes it.
        """
        if self.is_done or self.look():
            return "holds"
        with hold_lease(self.folder(), wait_report=self.say_waiting) as self._lease:
            if self.look():
                return "holds"
            before_making()
            self._product = self.make()
        return "ran"

    def say_waiting(self, claim: Claim) -> None:
        """Tell whoever watches that another process has the lease."""
        self.context.say(f"{self.name}: {claim.process} is at work on it; waiting")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one step went."""

    name: str
    state: State
    seconds: float
    uri: str | None
    fields: dict[str, Any]


def run_steps(
    steps: Sequence[Step[Any]], *, begin: Callable[[], None] = lambda: None
) -> list[Outcome]:
    """Bring every step to its product, in order.

    Args:
        steps: as `build_steps` orders them.
        begin: called when a step begins to make its product.
    """
    went: list[tuple[Step[Any], Done, float]] = []
    checks = _Checks(steps)
    for step in steps:
        step.check_early()

    def before_making() -> None:
        checks.before_making()
        begin()

    for step in steps:
        with step.context.timeline.entry(step.name) as entry:
            if not step.look():
                checks.before_waiting()
            entry.state = state = step.ensure(before_making=before_making)
            if state == "holds":
                step.catch_up()
        step.context.say(f"{step.name:<9} {state}  {entry.seconds:.1f} s  {step.folder().uri}")
        went.append((step, state, entry.seconds))
    # Described at the end: a later step may have had an earlier one's product renewed.
    return [
        Outcome(step.name, state, seconds, step.folder().uri, step.fields(step.product))
        for step, state, seconds in went
    ]


class _Checks:
    """Asks every step that is not done what could only fail hours later, so that it fails now.

    The cluster is looked at when something is about to be made and not before: of many processes
    that run one recipe, those that only wait should not start a Ray each.
    """

    def __init__(self, steps: Sequence[Step[Any]]) -> None:
        self._steps = steps
        self._done: set[str] = set()

    def before_waiting(self) -> None:
        self._run_once("check")
        for step in self._steps:
            if not step.is_done:
                step.check_products()

    def before_making(self) -> None:
        self._run_once("check_cluster")

    def _run_once(self, name: Literal["check", "check_cluster"]) -> None:
        if name not in self._done:
            for step in self._steps:
                if not step.is_done:
                    getattr(step, name)()
        self._done.add(name)


def look_at_steps(steps: Sequence[Step[Any]]) -> list[Outcome]:
    """Say which steps hold and which would run, without running any."""
    outcomes = []
    holds = True
    for step in steps:
        started_at = time.monotonic()
        holds = holds and step.look()
        seconds = time.monotonic() - started_at
        if holds:
            fields, uri = step.fields(step.product), step.folder().uri
            outcomes.append(Outcome(step.name, "holds", seconds, uri, fields))
        else:
            outcomes.append(Outcome(step.name, "would-run", seconds, None, {}))
    return outcomes
