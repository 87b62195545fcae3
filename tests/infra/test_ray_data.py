import time

import pytest

from infra import ray_data
from infra.errors import DataError, ProjectError, RecipeError, ServiceError

# Ray's own, when it makes its context.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is deprecated:DeprecationWarning:ray.data.context"
)


@pytest.mark.parametrize("kind", [DataError, ServiceError, RecipeError, ProjectError])
def test_an_error_comes_out_of_its_block_as_it_went_in(kind: type[ProjectError]) -> None:
    block = ray_data.error_block(kind("the disk is on fire", remedy="pour water"))
    with pytest.raises(kind) as caught:
        ray_data.raise_error_in(block)
    assert caught.value.problem == "the disk is on fire"
    assert caught.value.remedy == "pour water"
    assert caught.value.exit_code == kind.exit_code


def test_a_block_of_output_raises_nothing() -> None:
    ray_data.raise_error_in(ray_data.error_block(DataError("x", remedy="y")).drop_columns("error"))


def test_the_executors_loop_is_held_to_a_pace() -> None:
    """Else it turns without end while training is slower than reading, and takes a core from it."""
    pause = ray_data._Pause()
    started_at = time.monotonic()
    for _ in range(6):
        pause.on_execution_step(None)
    assert time.monotonic() - started_at >= 5 * ray_data.LOOK_EVERY_S
    time.sleep(2 * ray_data.LOOK_EVERY_S)
    asked_at = time.monotonic()
    pause.on_execution_step(None)  # a turn that lasted long is not made longer
    assert time.monotonic() - asked_at < ray_data.LOOK_EVERY_S
    assert ray_data.configure_ray_data().custom_execution_callback_classes == [ray_data._Pause]
