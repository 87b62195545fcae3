"""A recipe: the settings of all stages, composed, frozen, with the checks that span stages."""

from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, Field

from alexnet.evaluate.settings import EvaluateSettings
from alexnet.release.settings import GateSettings, RegisterSettings
from alexnet.settings import AugmentSettings, NetworkSettings
from alexnet.train.schedule import last_phase_start
from alexnet.train.settings import CheckpointSettings, ScalingSettings, TrainSettings
from infra.canonical import digest_of
from infra.commit import Frozen
from infra.errors import RecipeError
from preprocessing.settings import DatasetSettings, PrepareSettings

if TYPE_CHECKING:
    from torch import nn

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]


class TrackingSettings(Frozen):
    """Where the run is shown."""

    experiment: Annotated[str, Field(min_length=1)] = "alexnet"
    """MLflow's experiment."""
    use_environment: bool = True
    """Track at $MLFLOW_TRACKING_URI when no --tracking-uri is given; else in the workspace."""


class RunSettings(Frozen):
    """What tells runs of the same mathematics apart."""

    tag: Annotated[str, Field(min_length=1)] | None = None
    """Any word: another run of the same recipe, on purpose."""


class Recipe(Frozen):
    """Everything a run depends on, except where it runs."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: Slug
    """Names the folders of its runs."""
    dataset: DatasetSettings
    """Which images."""
    prepare: PrepareSettings = PrepareSettings()
    """How they are stored."""
    model: NetworkSettings = NetworkSettings()
    """What learns."""
    train: TrainSettings
    """How it learns."""
    checkpoint: CheckpointSettings = CheckpointSettings()
    """When its state is saved."""
    scaling: ScalingSettings = ScalingSettings()
    """On how many workers."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """How it is judged."""
    gate: GateSettings = GateSettings()
    """What it must reach to become champion."""
    registration: Annotated[RegisterSettings, Field(alias="register")] = RegisterSettings()
    """Under which name it is published; in a recipe `register`, which pydantic has taken."""
    tracking: TrackingSettings = TrackingSettings()
    """Where the run is shown."""
    run: RunSettings = RunSettings()
    """Which run of this recipe."""

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the resolved recipe, defaults included."""
        return digest_of(self.model_dump(mode="json"))


def check_recipe(recipe: Recipe) -> None:
    """Refuse combinations that cannot work, before any work is done.

    Raises:
        RecipeError: names the key and what is allowed.
    """
    crop_px, stored_px = recipe.train.augment.crop_px, recipe.prepare.stored_px
    if crop_px > stored_px:
        _refuse(
            f"train.augment.crop_px is {crop_px}, but images are stored at {stored_px} px",
            f"set it to at most {stored_px}, or raise prepare.stored_px",
        )
    _check_augment(recipe.train.augment, stored_px)
    _check_training_options(recipe.train)
    workers = recipe.scaling.workers
    low, high = (workers, workers) if isinstance(workers, int) else (workers.min, workers.max)
    if low > high:
        _refuse(f"scaling.workers has min {low} above max {high}", "set scaling.workers.min <= max")
    least = 2 * high if high > 1 else 1
    if recipe.train.global_batch < least:
        _refuse(
            f"train.global_batch is {recipe.train.global_batch}, too few for {high} workers",
            f"set it to at least {least}, so that every worker has two images",
        )
    start, epochs = last_phase_start(recipe.train.schedule), recipe.train.epochs
    if start > epochs:
        _refuse(
            f"train.schedule.phases: the last phase starts at epoch {start}, after the last"
            f" (train.epochs is {epochs})",
            f"set train.epochs to at least {start}, or remove the phases after epoch {epochs}",
        )


def _check_training_options(train: TrainSettings) -> None:
    progressive, crop_px = train.progressive, train.augment.crop_px
    if progressive is not None and progressive.first_px > crop_px:
        _refuse(
            f"train.progressive.first_px is {progressive.first_px}, above crop_px ({crop_px})",
            f"set it to at most {crop_px}, or train.progressive to null",
        )
    if train.mixing is not None and train.order == "fixed":
        _refuse(
            "train.mixing blends neighbours, which are the same every epoch in a fixed order",
            "set train.order to reshuffled, or train.mixing to null",
        )


def _check_augment(augment: AugmentSettings, stored_px: int) -> None:
    view_px = augment.view_px
    if view_px is not None and not augment.crop_px <= view_px <= stored_px:
        _refuse(
            f"train.augment.view_px is {view_px}, not between crop_px ({augment.crop_px})"
            f" and prepare.stored_px ({stored_px})",
            "set it between the two, or to null",
        )
    if augment.resized_crop is None:
        return
    if augment.crop_sharing > 1:
        _refuse(
            "train.augment.crop_sharing shares crops of one size, and resized_crop has none",
            "set one of them to its default: crop_sharing to 1, or resized_crop to null",
        )
    if augment.normalise == "mean-image":
        _refuse(
            "train.augment.normalise is mean-image, which does not fit parts of another scale",
            "set train.augment.normalise to channels, or resized_crop to null",
        )


def check_network(recipe: Recipe) -> None:
    """Refuse a network that cannot be built, or rates for layers that it lacks; imports torch.

    Raises:
        RecipeError: names the key and what is allowed.
    """
    import torch

    from alexnet.model import ModelError
    from alexnet.train.parameter_groups import decayed_layers, layer_of
    from alexnet.train.schedule import layers_named

    try:
        with torch.device("meta"):
            network = recipe.model.build(num_classes=2, image_size=recipe.train.augment.crop_px)
    except ModelError as error:
        raise RecipeError(f"model: {error.problem}", remedy=error.remedy) from error
    _check_input_sizes(recipe, network)
    if recipe.scaling.compile and recipe.train.progressive is not None:
        _refuse(
            "scaling.compile and train.progressive are set: every size would be compiled anew",
            "set scaling.compile to false, or train.progressive to null",
        )
    if recipe.scaling.compile and recipe.scaling.workers != 1 and _has_batch_norm(network):
        # A worker without images is called as it is, and its sums would come in another order.
        _refuse(
            f"scaling.compile is set, but {recipe.model.name} has batch norm, whose statistics are"
            " summed over several workers",
            "set scaling.compile to false, or scaling.workers to 1",
        )
    if recipe.scaling.microbatch is not None and _has_batch_norm(network):
        _refuse(
            f"scaling.microbatch is set, but {recipe.model.name} has batch norm, whose statistics"
            " are those of the whole batch",
            "set scaling.microbatch to null and use more workers, or a network without batch norm",
        )
    known = {layer_of(name) for name, _ in network.named_parameters()}
    named = {
        "train.schedule": layers_named(recipe.train.schedule),
        "train.optimizer.layer_decay": recipe.train.optimizer.layer_decay.keys(),
    }
    for key, layers in named.items():
        if unknown := sorted(layers - known):
            _refuse(
                f"{key} names layers that {recipe.model.name} lacks: {', '.join(unknown)}",
                f"name any of {', '.join(sorted(known))}",
            )
    optimizer = recipe.train.optimizer
    decayed = decayed_layers(network.named_parameters(), optimizer)
    if idle := sorted(optimizer.layer_decay.keys() - decayed):
        _refuse(
            "train.optimizer.layer_decay names layers without a weight that is decayed:"
            f" {', '.join(idle)}",
            "take them out, or set train.optimizer.decay_all to true",
        )


def _check_input_sizes(recipe: Recipe, network: "nn.Module") -> None:
    import torch

    from alexnet.model import ModelError

    progressive, train = recipe.train.progressive, recipe.train
    if progressive is None:
        return
    for side_px in {
        progressive.side_at(epoch=epoch, epochs=train.epochs, crop_px=train.augment.crop_px)
        for epoch in range(train.epochs)
    }:
        try:
            network(torch.empty(2, 3, side_px, side_px, device="meta"))
        except (ModelError, RuntimeError):
            _refuse(
                f"train.progressive needs a network that takes any size, and {recipe.model.name},"
                f" built for {train.augment.crop_px} px, does not take {side_px}",
                "use larger sizes, alexnet-torchvision or alexnet-bn; or set train.progressive to"
                " null",
            )


def _has_batch_norm(network: "nn.Module") -> bool:
    from alexnet.model import GlobalBatchNorm

    return any(isinstance(module, GlobalBatchNorm) for module in network.modules())


def _refuse(problem: str, remedy: str) -> None:
    raise RecipeError(problem, remedy=remedy)
