import pickle

import pytest

from infra import errors
from infra.errors import ExitCode, ProjectError


def kinds(kind: type[ProjectError] = ProjectError) -> list[type[ProjectError]]:
    own = [sub for sub in kind.__subclasses__() if sub.__module__ == "infra.errors"]
    return own + [deeper for sub in own for deeper in kinds(sub)]


@pytest.mark.parametrize("kind", kinds())
def test_an_error_crosses_processes_with_its_remedy(kind: type[ProjectError]) -> None:
    there = pickle.loads(pickle.dumps(kind("what is wrong", remedy="what to do")))
    assert type(there) is kind
    assert (str(there), there.problem, there.remedy) == (
        "what is wrong",
        "what is wrong",
        "what to do",
    )


@pytest.mark.parametrize("kind", kinds())
def test_no_deliberate_error_ends_as_a_bug(kind: type[ProjectError]) -> None:
    assert kind.exit_code not in (ExitCode.DONE, ExitCode.BUG)


@pytest.mark.parametrize("kind", kinds())
def test_the_tree_in_the_first_docstring_is_whole(kind: type[ProjectError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
