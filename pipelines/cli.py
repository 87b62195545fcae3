"""`alexnet`: parse, run, print what came of it, map errors to exit codes. Nothing else prints."""

import io
import logging
import os
import sys
from typing import Any

import typer

from infra.errors import GateRefused, ProjectError, RecipeError
from infra.progress import tell
from pipelines.commands import (
    check_gradients,
    ensemble,
    export,
    features,
    figures,
    look,
    predict,
    prepare,
    recipes,
    runs,
    storage,
    submission,
    validate,
    workflow,
)
from pipelines.commands.options import VersionOption
from pipelines.defaults import log_level

app = typer.Typer(
    name="alexnet",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def alexnet(_version: VersionOption = False) -> None:
    """From the ILSVRC-2012 archives to an evaluated, gated, registered AlexNet."""


workflow.add_to(app)
prepare.add_to(app)
workflow.add_steps_to(app)
for asking in (predict, validate, features, figures, ensemble, submission, export):
    asking.add_to(app)
for looking in (look, check_gradients, runs, recipes, storage):
    looking.add_to(app)


def main() -> None:
    """Run the command line; the one place where errors become exit codes."""
    as_json = "--json" in sys.argv
    try:
        _open_streams()
        _configure_process()
        if as_json:
            _run_for_a_program()
        else:
            app()
    except GateRefused as refusal:
        tell(sys.stderr, f"{refusal.problem}\n  what to do: {refusal.remedy}")
        sys.exit(int(refusal.exit_code))
    except ProjectError as error:
        from pipelines.output import print_error

        print_error(error, as_json=as_json)
        sys.exit(int(error.exit_code))


def _run_for_a_program() -> None:
    """Run the command; what typer finds wrong with the words becomes an error like the others."""
    try:
        sys.exit(app(standalone_mode=False))
    except typer.TyperException as error:
        raise RecipeError(
            error.format_message(), remedy="`alexnet COMMAND --help` lists what it takes"
        ) from error


def _open_streams() -> None:
    """Make the three streams writable whatever the shell closed, and whatever letters they take."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            # It gets the free number: else the next file has it, and what libraries print in it.
            stream = open(os.devnull, mode)  # noqa: PTH123, SIM115 - stays open to the end
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
        if mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _configure_process() -> None:
    import signal

    def interrupt(_signal: int, _frame: Any) -> None:  # noqa: ANN401 - a frame
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    logging.basicConfig(level=log_level(), format="%(levelname)s %(name)s %(message)s")


if __name__ == "__main__":
    main()
