from pathlib import Path

import pytest
from end_to_end_tools import Cli, Reference


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command on an empty workspace."""
    return Cli(tmp_path / "workspace")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("reference")
    cli, log = Cli(folder / "workspace"), folder / "log"
    document = cli.run_well("run", "demo", settings=[f"train.sample_log={log}"])
    return Reference(cli, log, document)
