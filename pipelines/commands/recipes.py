"""`alexnet recipes`, `alexnet recipes show`: what comes with the package."""

import typer

from pipelines.commands.options import JsonOption, RecipeArgument, SetOption


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The recipes that come with the package.", no_args_is_help=False)
    group.callback(invoke_without_command=True)(recipes)
    group.command()(show)
    app.add_typer(group, name="recipes")


def recipes(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the shipped recipes."""
    from pipelines.output import print_recipes

    if context.invoked_subcommand is None:
        print_recipes(as_json=as_json)


def show(
    name: RecipeArgument,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    as_json: JsonOption = False,
) -> None:
    """Print a recipe with every default filled in."""
    from pipelines.output import print_recipe
    from pipelines.recipe_yaml import load_recipe

    print_recipe(load_recipe(name, overrides), as_json=as_json)
