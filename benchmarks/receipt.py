"""What elements of the 2012 network are worth: it is trained with and without each of them.

By the product itself: `alexnet evaluate receipt --set …` for the recipe as it is and for each
element left out, with several seeds, all in one workspace and tracked there. What holds is not
trained again: run the command again to go on, or to add elements and seeds. Other runs of the same
series that `--output` has stay there. `alexnet receipt` shows what came of it beside the release's
logs.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from alexnet.evaluate.evaluation import open_evaluation
from alexnet.receipt.elements import ablations
from alexnet.receipt.measured import BASELINE, Errors, Measurements, Run
from alexnet.receipt.runs_table import measurements_text
from benchmarks.machine import load_average, read_commit, read_hardware, read_versions
from infra.store import open_store
from pipelines.recipe_yaml import load_recipe

ELEMENTS: Final = (
    "response-norm",
    "two-towers",
    "overlapping-pooling",
    "dropout",
    "colour-noise",
    "same-map-norm",
)
"""What is left out where nothing is said; ten crops are in every run."""
RECIPE: Final = "receipt"
OUTPUT: Final = Path("build/benchmarks/receipt")
NAME: Final = "receipt"
"""Of the two files; in `benchmarks/results` it is what `alexnet receipt` reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """The command line on one workspace, with what all runs have in common."""

    recipe: str
    workspace: str
    place: tuple[str, ...]
    """Settings that say where the data is; in no report."""
    settings: tuple[str, ...]
    """Settings of every run."""

    def ask(self, command: str, settings: Sequence[str] = ()) -> dict[str, Any]:
        """Run a command of `alexnet` to its end and return the document that it printed.

        Raises:
            RuntimeError: it did not end well; with the end of what it said.
        """
        words = [sys.executable, "-m", "pipelines.cli", command, self.recipe, "--json"]
        words += ["--workspace", self.workspace]
        words += [word for one in self.given(settings) for word in ("--set", one)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[-3:]
            raise RuntimeError(f"alexnet {command} ended with {done.returncode}: {' '.join(said)}")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def given(self, settings: Sequence[str]) -> list[str]:
        """Return all settings of a run, the place of the data included."""
        return [*self.place, *self.settings, *settings]

    def run(self, element: str, seed: int) -> Run:
        """Train and evaluate one network, or find that it was."""
        left_out = () if element == BASELINE else ablations()[element].settings
        settings = (*left_out, f"train.seed={seed}")
        found = self.ask("evaluate", settings)
        evaluation = open_evaluation(open_store(found["uri"]))
        return Run(
            element=element,
            seed=seed,
            settings=settings,
            recipe_digest=load_recipe(self.recipe, self.given(settings)).digest,
            weights_sha256=evaluation.checkpoint_digest,
            steps=evaluation.step,
            count=evaluation.count,
            center=_errors(found["count"], found["center"]),
            ten_crop=_errors(found["count"], found["ten_crop"]),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say; 1 when a run failed, the others stand."""
    options = _parser().parse_args(arguments)
    with_archives = [] if options.archives is None else [f"dataset.archives={options.archives}"]
    product = Product(
        recipe=options.recipe,
        workspace=options.workspace,
        place=tuple(with_archives),
        settings=(f"prepare.max_rejects={options.max_rejects}", *options.overrides),
    )
    measured = None
    before = read_recorded(options.output)
    for measured in measure(product, options.elements, range(options.seeds), before):
        # After every run: an hour of trainings must not be lost with the last one.
        path = write(measured, options.output)
    if measured is None:
        return 1
    print(measurements_text(measured))
    print(f"written: {path}", file=sys.stderr)
    return 1 if measured.failures else 0


def measure(
    product: Product,
    elements: Sequence[str],
    seeds: Sequence[int],
    before: Measurements | None = None,
) -> Iterator[Measurements]:
    """Make every run, seed by seed, so that pairs are soon complete; give all so far after each.

    Args:
        product: what runs.
        elements: what is left out in turn, after none is.
        seeds: of each.
        before: what is recorded of this series; runs that are not made now are kept of it.

    Raises:
        RuntimeError: the dataset cannot be had, or what is recorded is another series; or a run
            comes out otherwise than recorded. What is recorded stays then as it is.
    """
    started_at, started_s, load_before = datetime.now(UTC), time.monotonic(), load_average()
    dataset = product.ask("prepare")
    recipe = load_recipe(product.recipe, product.given(()))
    if before is not None:
        _check_same_series(before, recipe.name, product.settings, dataset["fingerprint"])
    runs: list[Run] = []
    failures: dict[str, str] = {}
    for seed in seeds:
        for element in (BASELINE, *elements):
            _say(f"{element}, seed {seed}")
            try:
                run = product.run(element, seed)
            except RuntimeError as error:
                failures[f"{element}, seed {seed}"] = str(error)
                _say(str(error))
            else:
                _check_same_weights(run, before)
                runs.append(run)
            yield Measurements(
                started_at=started_at.isoformat(timespec="seconds"),
                elapsed_s=round(time.monotonic() - started_s, 1),
                recipe=recipe.name,
                settings=product.settings,
                archives=Path(recipe.dataset.archives or "").name,
                dataset_fingerprint=dataset["fingerprint"],
                train_count=dataset["train"]["count"],
                val_count=dataset["val"]["count"],
                machine=machine(),
                versions=read_versions(),
                commit=commit(),
                load_average=(load_before, load_average()),
                runs=joined(() if before is None else before.runs, runs),
                failures=dict(failures),
            )


def joined(recorded: Sequence[Run], made: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs made and the other recorded ones, seed by seed, baselines first."""
    now = {(run.element, run.seed): run for run in made}
    kept = [run for run in recorded if (run.element, run.seed) not in now]
    return tuple(sorted((*kept, *made), key=lambda run: (run.seed, run.element != BASELINE)))


def _check_same_weights(run: Run, before: Measurements | None) -> None:
    recorded = () if before is None else before.runs
    for old in recorded:
        is_same_run = (old.element, old.seed) == (run.element, run.seed)
        if is_same_run and old.weights_sha256 != run.weights_sha256:
            raise RuntimeError(
                f"{run.element}, seed {run.seed}, has other weights than recorded: the code or the"
                " machine is another, and pairs would be of two; name another --output, or take"
                f" {NAME}.json away, to have all of this version: what the workspace has is found"
            )


def read_recorded(folder: Path) -> Measurements | None:
    """Read what a folder has of an earlier command."""
    path = folder / f"{NAME}.json"
    return Measurements.model_validate_json(path.read_bytes()) if path.exists() else None


def _check_same_series(
    before: Measurements, recipe: str, settings: tuple[str, ...], fingerprint: str
) -> None:
    recorded = (before.recipe, before.settings, before.dataset_fingerprint)
    if recorded != (recipe, settings, fingerprint):
        raise RuntimeError(
            f"--output has runs of another series: recipe {before.recipe}, settings"
            f" {list(before.settings)}, dataset {before.dataset_fingerprint[:12]}; name another"
            " folder"
        )


def machine() -> str:
    """Describe this machine without naming it."""
    hardware = read_hardware()
    gpus = ", ".join(hardware.gpus) or "no GPU"
    return f"{hardware.cpu}, {hardware.cpus} CPUs, {hardware.memory_gib:g} GiB, {gpus}"


def commit() -> str:
    """Name the code."""
    found = read_commit()
    return "unknown" if found is None else found.id[:12] + ", modified" * found.modified


def write(measured: Measurements, folder: Path) -> Path:
    """Write the document and the table beside it; return the document's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.json"
    path.write_text(measured.model_dump_json(indent=1) + "\n")
    path.with_suffix(".md").write_text(measurements_text(measured) + "\n")
    return path


def _errors(count: int, accuracy: dict[str, Any]) -> Errors:
    return Errors(
        wrong1=count - accuracy["correct1"],
        wrong5=count - accuracy["correct5"],
        loss=accuracy["loss"],
    )


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S}  {what}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.receipt", description=__doc__)
    parser.add_argument(
        "--archives", metavar="DIR", help="of the three official archives; else the recipe's"
    )
    parser.add_argument("--max-rejects", type=int, default=0, help="unreadable images to allow")
    parser.add_argument(
        "--elements",
        nargs="*",
        choices=sorted(name for name, one in ablations().items() if one.settings),
        default=list(ELEMENTS),
        metavar="NAME",
        help="what to leave out in turn: %(choices)s",
    )
    parser.add_argument("--seeds", type=int, default=3, help="of each, from 0 on")
    parser.add_argument("--recipe", default=RECIPE, help="a shipped one, or a YAML file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--workspace", default=str(OUTPUT / "workspace"), metavar="DIR_OR_URI")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="of the files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
