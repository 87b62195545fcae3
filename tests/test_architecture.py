"""What holds across files: who imports what, what the command line offers, what the README says."""

import ast
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from infra.errors import ExitCode
from pipelines.recipe_yaml import load_recipe, recipe_text, shipped_recipes

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipelines", "alexnet", "preprocessing", "infra")

# Effects stay at the edge. To add a file: say in its first line what of the outside it is the one
# place for, keep what decides out of it, and add it here in the same commit. To need a fourth such
# library, say so in docs/dependencies.md first.
IMPORTERS = {
    "ray": {
        "alexnet/data/loader.py",
        "alexnet/evaluate/execute.py",
        "alexnet/inference/answer_many.py",
        "alexnet/train/launch.py",
        "alexnet/train/watch.py",
        "alexnet/train/process_group.py",
        "alexnet/train/worker.py",
        "infra/ray_data.py",
        "infra/ray_runtime.py",
        "infra/ray_session.py",
        "infra/ray_tasks.py",
        "infra/tracking/actor.py",
    },
    "mlflow": {
        "alexnet/release/pyfunc_model.py",  # runs where MLflow serves
        "alexnet/release/score.py",  # a fresh process that scores a model before it is registered
        "infra/tracking/mlflow_quiet.py",  # all others get MLflow from here
    },
    "boto3": {"infra/store/s3_client.py"},
}

# A ratchet: this list should shrink. A setting is a recipe's key (`--set`), never a flag.
_EVERYWHERE = {"--set", "--workspace", "--tracking-uri", "--json"}
COMMANDS = {
    "demo": _EVERYWHERE,
    "run": _EVERYWHERE | {"RECIPE", "--from-folder", "--dry-run"},
    "prepare": _EVERYWHERE
    | {"[RECIPE]", "--from-folder", "--verify", "--repair", "--deep", "--estimate", "--clean"},
    "train": _EVERYWHERE | {"RECIPE", "--from-folder"},
    "evaluate": _EVERYWHERE | {"RECIPE", "--from-folder"},
    "gate": _EVERYWHERE | {"RECIPE", "--from-folder"},
    "register": _EVERYWHERE | {"RECIPE", "--from-folder"},
    "report": _EVERYWHERE | {"RECIPE", "--from-folder"},
    "inspect": {"URI", "--workspace", "--tracking-uri", "--json"},
    "predict": {
        "MODEL",
        "IMAGES",
        "--output",
        "--all-probabilities",
        "--view",
        "--workspace",
        "--tracking-uri",
        "--json",
    },
    "validate": {"MODEL", "DATASET", "--view", "--workspace", "--tracking-uri", "--json"},
    "figures": {
        "MODEL",
        "IMAGES",
        "--output",
        "--layer",
        "--among",
        "--workspace",
        "--tracking-uri",
        "--json",
    },
    "features": {
        "MODEL",
        "IMAGES",
        "--output",
        "--layer",
        "--split",
        "--workspace",
        "--tracking-uri",
        "--json",
    },
    "similar": {
        "MODEL",
        "IMAGES",
        "--among",
        "--count",
        "--output",
        "--picture",
        "--layer",
        "--workspace",
        "--tracking-uri",
        "--json",
    },
    "ensemble": {
        "EVALUATIONS",
        "--weights",
        "--search",
        "--view",
        "--output",
        "--workspace",
        "--json",
    },
    "export": {"MODEL", "--output", "--workspace", "--tracking-uri", "--json"},
    "submission": {
        "MODEL",
        "IMAGES",
        "--output",
        "--devkit",
        "--check",
        "--view",
        "--workspace",
        "--tracking-uri",
        "--json",
    },
    "check-gradients": {"NETWORK", "--layer", "--json"},
    "receipt": {"--json"},
    "runs": {"--workspace", "--json"},
    "runs reap": {"--workspace", "--tracking-uri", "--json"},
    "runs compare": {"RUNS", "--workspace", "--tracking-uri", "--json"},
    "storage": set(),
    "storage check": {"URI", "--json"},
    "recipes": {"--json"},
    "recipes show": {"RECIPE", "--set", "--json"},
}

HEAVY = (
    "torch", "ray", "mlflow", "pyarrow.dataset", "pandas", "sqlalchemy", "matplotlib", "jinja2",
)  # fmt: skip
HELP_S = 2.0
"""It takes 0.3 s on an idle machine; the best of three, for a busy one."""


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in sources()}


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, in functions and for types included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: relative import"
            assert node.module is not None
            # A name may be a module of its own.
            names = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES
            found |= names or {node.module}
    return found


def top_level(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("library", sorted(IMPORTERS))
def test_a_library_of_the_outside_is_imported_in_its_few_files(library: str) -> None:
    found = {relative(path) for path in sources() if library in top_level(imports_of(path))}
    assert found == IMPORTERS[library]


@pytest.mark.parametrize("package", ["preprocessing", "infra"])
def test_no_torch_below_the_network(package: str) -> None:
    """Its import takes seconds, in every task."""
    for path in (ROOT / package).rglob("*.py"):
        assert "torch" not in top_level(imports_of(path)), relative(path)


def test_the_network_knows_torch_and_the_generator_and_nothing_else() -> None:
    allowed = {"torch", *sys.stdlib_module_names}
    for path in (ROOT / "alexnet" / "model").glob("*.py"):
        for module in imports_of(path):
            ours = module.startswith(("alexnet.model", "alexnet.counter_rng"))
            assert ours or module.partition(".")[0] in allowed, f"{relative(path)}: {module}"


@pytest.mark.parametrize(
    "pattern",
    [
        "preprocessing/building/plan.py",
        "alexnet/data/order.py",
        "alexnet/release/gate.py",
        "alexnet/train/schedule*.py",
        "alexnet/model/*.py",
        "alexnet/counter_rng*.py",
    ],
)
def test_what_decides_knows_no_files_clocks_or_network(pattern: str) -> None:
    effects = {"os", "io", "shutil", "tempfile", "time", "datetime", "random", "socket", "requests"}
    paths = list(ROOT.glob(pattern))
    assert paths
    for path in paths:
        assert not imports_of(path) & {"pathlib", "infra.store", *effects}, relative(path)


def test_imports_point_down() -> None:
    """As import-linter checks too; here deferred imports and messages are ours."""
    for path in sources():
        above = PACKAGES[: PACKAGES.index(relative(path).partition("/")[0])]
        assert not top_level(imports_of(path)) & set(above), relative(path)


def test_there_are_no_cycles_deferred_imports_included() -> None:
    graph = {module_name(path): imports_of(path) & MODULES for path in sources()}
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail[trail.index(module) :], module))
        if module not in finished:
            for imported in sorted(graph[module]):
                visit(imported, (*trail, module))
            finished.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_nothing_imports_tests() -> None:
    for path in sources():
        assert not top_level(imports_of(path)) & {"tests", "pytest", "hypothesis", "benchmarks"}


RUN_AND_LIST_MODULES = """
import json, sys
sys.argv = ["alexnet", *sys.argv[1:]]
from pipelines.cli import main
try:
    main()
except SystemExit as end:
    code = end.code or 0
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["recipes"]])
def test_help_and_recipes_load_nothing_heavy(words: list[str]) -> None:
    command = [sys.executable, "-c", RUN_AND_LIST_MODULES, *words]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(result.stderr.splitlines()[-1])
    assert found["code"] == 0
    assert result.stdout
    assert not set(HEAVY) & set(found["modules"])


def test_what_a_registered_model_loads_is_what_it_requires() -> None:
    """Where it answers there is neither a client of S3 nor a Ray."""
    modules = "alexnet.release.package, alexnet.inference.predictor, infra.store"
    script = f"import {modules}, sys; print(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"boto3", "botocore", "ray", "filelock", "psutil", "yaml"} & set(
        result.stdout.split()
    )


@pytest.mark.parametrize(
    "modules", ["preprocessing.building.execute", "preprocessing.prepare, pipelines.steps.prepare"]
)
def test_what_renders_or_has_nothing_to_do_waits_for_no_library_of_others(modules: str) -> None:
    """A process that renders imports the first, a command whose dataset is there the second."""
    script = f"import {modules}, sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    heavy = {"scipy", "torch", "mlflow", "pandas", "sqlalchemy", "matplotlib", "jinja2"}
    assert not heavy & set(result.stdout.split())


def test_help_comes_at_once() -> None:
    command = [str(Path(sys.executable).with_name("alexnet")), "--help"]
    best_s = float("inf")
    for _ in range(3):
        started_at = time.perf_counter()
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        best_s = min(best_s, time.perf_counter() - started_at)
        assert "register" in result.stdout
        if best_s < HELP_S:
            return
    pytest.fail(f"alexnet --help took {best_s:.1f} s")


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Each command of the real command line, with its arguments and flags."""
    for name, command in group.commands.items():
        words = set()
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                words.add(parameter.metavar)
            elif "--help" not in parameter.opts:
                words |= {word for word in parameter.opts if word.startswith("--")}
        yield f"{prefix}{name}", words
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")


@pytest.fixture(scope="module")
def offered() -> dict[str, set[str]]:
    from pipelines.cli import app

    return dict(commands(typer.main.get_command(app)))


def test_the_commands_and_flags_are_these(offered: dict[str, set[str]]) -> None:
    assert offered == COMMANDS


def header(text: str) -> list[str]:
    lines = text.splitlines()
    stop = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").strip() for line in lines[:stop]]


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_loads_and_its_header_tells_where_it_comes_from(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    lines = header(recipe_text(name))
    assert lines[0].endswith(".")
    for word in ("Paper:", "Expected:", "Status:"):
        assert any(line.startswith(word) for line in lines), word
    shown = [line for line in lines if line.startswith("alexnet ")]
    assert shown
    for line in shown:
        assert re.fullmatch(rf"alexnet (run )?{name}( --set \S+=\S+)*", line), line


def readme() -> str:
    return (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The first code block after a heading of the README."""
    return readme().partition(f"## {title}\n")[2].split("```")[1]


def tree_of(text: str) -> Iterator[Path]:
    """The files and folders that the README's tree names, by indentation and by name."""
    top, folder = ROOT, ROOT
    for line in text.strip().splitlines():
        indent = len(line) - len(line.lstrip())
        # Names come first; two spaces or more part them from what is said of them.
        for number, column in enumerate(re.split(r"\s{2,}", line.strip())):
            for word in re.findall(r"[\w./-]+", column):
                if word.endswith("/"):
                    base = ROOT if indent == 0 and number == 0 else top
                    folder = base / word
                    yield folder
                    if indent == 0 and number == 0:
                        top = folder
                elif word.endswith((".py", ".yaml", ".md", ".toml")):
                    yield (folder if (folder / word).exists() else top) / word


def test_what_the_readmes_tree_names_exists() -> None:
    named = list(tree_of(section("The tree")))
    assert len(named) > 25
    missing = [path.relative_to(ROOT).as_posix() for path in named if not path.exists()]
    assert missing == []


def test_the_readmes_tree_names_every_package() -> None:
    named = {path.relative_to(ROOT).as_posix() for path in tree_of(section("The tree"))}
    packages = {relative(path.parent) for path in sources() if path.name == "__init__.py"}
    inside = {name for name in packages if name.startswith("infra/")}  # told in one line
    assert packages - inside <= named


def test_the_readmes_commands_are_the_command_lines(offered: dict[str, set[str]]) -> None:
    rows = [line for line in readme().splitlines() if line.startswith("| `alexnet ")]
    told = {}
    for row in rows:
        for command in re.findall(r"`alexnet ([^`]+)`", row.split("|")[1]):
            words = command.split()
            name = " ".join(word for word in words if word.islower())
            told[name] = {word for word in words if not word.islower()}
    expected = {}
    for name, words in offered.items():
        # Those of recipes are shown above the table; storage by itself does nothing.
        if not name.startswith("recipes") and name != "storage":
            expected[name] = {word.strip("[]") for word in words if not word.startswith("--")}
    assert told == expected
    assert "alexnet recipes " in section("Use it")
    assert "alexnet recipes show " in section("Use it")


def test_every_flag_in_the_readme_is_one(offered: dict[str, set[str]]) -> None:
    known = {word for words in offered.values() for word in words if word.startswith("--")}
    shown = re.findall(r"alexnet [^\n`#]*", section("Use it"))
    assert shown
    for line in shown:
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line


def test_the_readmes_exit_codes_are_the_ones_there_are() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", readme(), re.MULTILINE)] == [
        int(code) for code in ExitCode
    ]
