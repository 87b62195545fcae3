import io
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from infra.canonical import digest_of
from infra.commit import commit_receipt, read_receipt
from infra.lease import hold_lease
from infra.store import FolderStore, ObjectStore
from infra.tracking.place import place_for
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.workflow import Step, look_at_steps, run_steps

RECEIPT = "made.json"
WAIT_S = 20


class Note(Step[bytes]):
    """A step whose product is a few bytes; it keeps a diary of what was done to it."""

    def __init__(
        self, context: Context, name: str, diary: list[str], before: "Note | None" = None
    ) -> None:
        super().__init__(context)
        self.name = name
        self.diary = diary
        self.before = before
        self.refusal: Exception | None = None
        self.failure: BaseException | None = None
        self.dislikes: Note | None = None
        """It can make nothing of this one's product."""
        self.caught_up = False
        self.looking = threading.Event()
        """Set when someone has looked for the product."""

    def folder(self) -> ObjectStore:
        key = digest_of([self.name, self.before.product.decode() if self.before else ""])
        return self.context.workspace.child(f"{self.name}/{key[:8]}")

    def find(self) -> bytes | None:
        found = read_receipt(self.folder(), RECEIPT)
        self.looking.set()
        return found

    def make(self) -> bytes:
        self.diary.append(f"make {self.name}")
        if self.failure is not None:
            raise self.failure
        return commit_receipt(self.folder(), RECEIPT, self.name.encode())

    def check(self) -> None:
        self.diary.append(f"check {self.name}")
        if self.refusal is not None:
            raise self.refusal

    def catch_up(self) -> None:
        self.caught_up = True

    def check_cluster(self) -> None:
        self.diary.append(f"see the cluster for {self.name}")

    def check_products(self) -> None:
        if self.dislikes is not None and self.dislikes.is_done:
            raise ValueError(f"not from {self.dislikes.name}")

    def fields(self, product: bytes) -> dict[str, Any]:
        return {"said": product.decode()}


@pytest.fixture
def context(workspace: FolderStore) -> Context:
    return Context(load_recipe("demo"), workspace, place_for(workspace, None), io.StringIO())


@pytest.fixture
def diary() -> list[str]:
    return []


def three_steps(context: Context, diary: list[str]) -> list[Note]:
    first = Note(context, "first", diary)
    second = Note(context, "second", diary, first)
    return [first, second, Note(context, "third", diary, second)]


def states(outcomes: list[Any]) -> list[str]:
    return [outcome.state for outcome in outcomes]


def said(context: Context) -> str:
    assert isinstance(context.stream, io.StringIO)
    return context.stream.getvalue()


def test_steps_run_once_in_order_and_hold_afterwards(context: Context, diary: list[str]) -> None:
    outcomes = run_steps(three_steps(context, diary))
    assert states(outcomes) == ["ran", "ran", "ran"]
    assert [outcome.name for outcome in outcomes] == ["first", "second", "third"]
    assert [outcome.fields for outcome in outcomes] == [
        {"said": "first"},
        {"said": "second"},
        {"said": "third"},
    ]
    for outcome in outcomes:
        assert outcome.uri is not None
        assert Path(outcome.uri, RECEIPT).is_file()
        assert outcome.seconds >= 0
    again = run_steps(three_steps(context, diary))
    assert states(again) == ["holds", "holds", "holds"]
    assert [(o.uri, o.fields) for o in again] == [(o.uri, o.fields) for o in outcomes]
    assert [line for line in diary if line.startswith("make")] == [
        "make first",
        "make second",
        "make third",
    ]


def test_what_holds_catches_up_and_what_is_only_looked_at_does_not(
    context: Context, diary: list[str]
) -> None:
    run_steps(three_steps(context, diary)[:1])
    steps = three_steps(context, diary)
    run_steps(steps)
    assert [step.caught_up for step in steps] == [True, False, False]
    steps = three_steps(context, diary)
    assert states(look_at_steps(steps)) == ["holds"] * 3
    assert not any(step.caught_up for step in steps)


def test_each_step_says_how_it_went_and_where_its_product_lies(
    context: Context, diary: list[str]
) -> None:
    run_steps(three_steps(context, diary)[:1])
    run_steps(three_steps(context, diary)[:2])
    lines = [line.split() for line in said(context).splitlines()]
    assert [line[:2] for line in lines] == [["first", "ran"], ["first", "holds"], ["second", "ran"]]
    assert lines[0][-1].startswith(f"{context.workspace.uri}/first/")


def test_all_that_is_left_is_checked_before_the_first_step_runs(
    context: Context, diary: list[str]
) -> None:
    run_steps(three_steps(context, diary))
    names = ("first", "second", "third")
    before = [f"{what} {name}" for what in ("check", "see the cluster for") for name in names]
    assert diary == [*before, *(f"make {name}" for name in names)]


def test_each_step_that_is_made_is_said_to_begin_after_all_checks(
    context: Context, diary: list[str]
) -> None:
    run_steps(three_steps(context, diary)[:1])
    diary.clear()
    run_steps(three_steps(context, diary), begin=lambda: diary.append("begin"))
    made = ["begin", "make second", "begin", "make third"]
    assert diary[-4:] == made
    assert diary.count("begin") == 2


def test_what_holds_is_not_checked(context: Context, diary: list[str]) -> None:
    run_steps(three_steps(context, diary)[:1])
    diary.clear()
    run_steps(three_steps(context, diary))
    assert diary == [
        "check second",
        "check third",
        "see the cluster for second",
        "see the cluster for third",
        "make second",
        "make third",
    ]
    diary.clear()
    run_steps(three_steps(context, diary))
    assert diary == []


def test_a_later_steps_refusal_comes_before_any_work(context: Context, diary: list[str]) -> None:
    steps = three_steps(context, diary)
    steps[2].refusal = ValueError("no such network")
    with pytest.raises(ValueError, match="no such network"):
        run_steps(steps)
    assert "make first" not in diary
    assert list(context.workspace.list("first/")) == []


def test_later_steps_see_each_product_before_the_next_is_made(
    context: Context, diary: list[str]
) -> None:
    steps = three_steps(context, diary)
    steps[2].dislikes = steps[0]
    with pytest.raises(ValueError, match="not from first"):
        run_steps(steps)
    assert [word for word in diary if word.startswith("make")] == ["make first"]


def test_looking_runs_nothing_and_says_what_would(context: Context, diary: list[str]) -> None:
    assert states(look_at_steps(three_steps(context, diary))) == ["would-run"] * 3
    run_steps(three_steps(context, diary)[:2])
    before = [info.key for info in context.workspace.list()]
    diary.clear()
    outcomes = look_at_steps(three_steps(context, diary))
    assert states(outcomes) == ["holds", "holds", "would-run"]
    assert outcomes[1].fields == {"said": "second"}
    assert (outcomes[2].uri, outcomes[2].fields) == (None, {})
    assert diary == []
    assert [info.key for info in context.workspace.list()] == before


def test_after_a_step_that_would_run_nothing_can_be_told(
    context: Context, diary: list[str]
) -> None:
    """A later step's key needs the products before it."""
    steps = three_steps(context, diary)
    run_steps(steps)
    steps[0].folder().delete(RECEIPT)
    assert states(look_at_steps(three_steps(context, diary))) == ["would-run"] * 3


def test_a_step_made_by_another_meanwhile_is_not_made_again(
    context: Context, diary: list[str]
) -> None:
    """The other holds the lease when we look; it commits; we find its product."""
    (step,) = three_steps(context, diary)[:1]
    outcomes = []
    with hold_lease(step.folder()):
        waiter = threading.Thread(target=lambda: outcomes.extend(run_steps([step])))
        waiter.start()
        assert step.looking.wait(WAIT_S)
        commit_receipt(step.folder(), RECEIPT, b"theirs")
    waiter.join(WAIT_S)
    assert states(outcomes) == ["holds"]
    assert outcomes[0].fields == {"said": "theirs"}
    # Nor was the cluster looked at, for which a Ray would have been started.
    assert diary == ["check first"]


def test_whoever_waits_says_so(context: Context, diary: list[str]) -> None:
    (step,) = three_steps(context, diary)[:1]
    with hold_lease(step.folder()):
        waiter = threading.Thread(target=run_steps, args=([step],))
        waiter.start()
        for _ in range(WAIT_S * 100):
            if "waiting" in said(context):
                break
            waiter.join(0.01)
    waiter.join(WAIT_S)
    who = f"process {os.getpid()} on {socket.gethostname()}"
    assert f"first: {who} is at work on it; waiting" in said(context)


def test_of_several_at_once_one_makes_it(context: Context, diary: list[str]) -> None:
    outcomes: list[Any] = []
    started = threading.Barrier(3)

    def run() -> None:
        step = Note(context, "first", diary)
        started.wait(WAIT_S)
        outcomes.extend(run_steps([step]))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(states(outcomes)) == ["holds", "holds", "ran"]
    assert diary.count("make first") == 1


@pytest.mark.parametrize("failure", [ValueError("a bug"), KeyboardInterrupt(), SystemExit(3)])
def test_after_a_failure_the_lease_is_free_and_the_next_run_goes_on(
    context: Context, diary: list[str], failure: BaseException
) -> None:
    steps = three_steps(context, diary)
    steps[1].failure = failure
    with pytest.raises(type(failure)):
        run_steps(steps)
    assert steps[0].is_done
    assert not steps[1].is_done
    waited_for: list[Any] = []
    with hold_lease(steps[1].folder(), wait_report=waited_for.append):
        assert waited_for == []
    assert states(run_steps(three_steps(context, diary))) == ["holds", "ran", "ran"]


def test_a_product_is_there_only_after_its_step_ran(context: Context, diary: list[str]) -> None:
    with pytest.raises(RuntimeError, match="first has not run yet"):
        _ = Note(context, "first", diary).product
