"""The tiny training of tests/alexnet, for what describes or evaluates one."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location(
    "alexnet_fixtures", Path(__file__).parents[1] / "alexnet" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_fixtures = module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

tiny_training = _fixtures.tiny_training
