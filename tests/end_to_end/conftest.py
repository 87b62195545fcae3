from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end_tools import Cli, Reference, Services
from mlflow_server import mlflow_server
from s3_servers import S3Server


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


@pytest.fixture(scope="session")
def services(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """S3 and MLflow, shared by all tests."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    artifacts = f"s3://{s3_server.bucket}/mlflow"
    with mlflow_server(folder, artifacts=artifacts, environment=s3_server.environment) as server:
        yield Services(s3_server, server)
