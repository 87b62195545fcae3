"""The options and arguments that commands share, and those of `run` and `prepare`."""

from typing import Annotated

import typer

from pipelines.defaults import package_version


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(package_version())
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Print the version and end."
    ),
]

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name, or a YAML file.")
]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override train.epochs=3, say; repeatable."),
]
WorkspaceOption = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="DIR_OR_URI",
        help="Holds everything made. [default: $ALEXNET_WORKSPACE, else the user's data folder]",
    ),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server. [default: $MLFLOW_TRACKING_URI, else a file in the workspace]",
    ),
]
DemoTrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server. [default: a file in the workspace, also where $MLFLOW_TRACKING_URI is"
        " set]",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output.")
]

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="models:/NAME@ALIAS, a checkpoint, a run, or what `alexnet export` wrote.",
    ),
]
ImagesArgument = Annotated[
    list[str],
    typer.Argument(metavar="IMAGES", help="Files, folders, Parquet files or datasets."),
]
ViewOption = Annotated[
    str,
    typer.Option(
        "--view",
        metavar="VIEW",
        help="center: the central crop; ten_crop, nine_crop: an average over so many crops,"
        " slower.",
    ),
]

FolderOption = Annotated[
    str | None,
    typer.Option(
        "--from-folder",
        metavar="DIR",
        help="Instead of the recipe's images, those of a folder: DIR/CLASS/*, or DIR/train/CLASS/*"
        " and DIR/val/CLASS/*.",
    ),
]

DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say which steps are done already and which would run. Indexes the images for that;"
        " CIFAR and Hugging Face are unpacked.",
    ),
]

PreparedRecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RECIPE]", help="A shipped recipe's name, or a YAML file. [default: alexnet-2012]"
    ),
]
VerifyOption = Annotated[
    str | None,
    typer.Option("--verify", metavar="URI", help="Only check a dataset: all bytes and rows."),
]
RepairOption = Annotated[
    bool, typer.Option("--repair", help="Check it first, and make anew what is damaged.")
]
DeepOption = Annotated[
    bool, typer.Option("--deep", help="With --verify or --repair: decode every image too.")
]
EstimateOption = Annotated[
    bool,
    typer.Option(
        "--estimate",
        help="Only say what it would take: bytes, hours, requests. Indexes the images for that;"
        " CIFAR and Hugging Face are unpacked.",
    ),
]
CleanOption = Annotated[
    bool, typer.Option("--clean", help="Only remove what interrupted builds left behind.")
]
