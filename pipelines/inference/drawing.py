"""`alexnet figures`: a trained network in pictures: what it learned, sees and answers."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import IO, Any, Final

from pydantic import ValidationError

from alexnet.figures.canvas import drawable, shortened
from alexnet.figures.confusion import draw_confusion
from alexnet.figures.film import draw_film
from alexnet.figures.maps import draw_maps
from alexnet.figures.panel import PANEL_IMAGES, best_guesses
from alexnet.figures.pixels import picture_png
from alexnet.figures.prediction_panel import Prediction, draw_panel
from alexnet.figures.saliency import draw_saliency
from alexnet.inference.input_parts import InputPart
from alexnet.inference.inputs import find_parts
from alexnet.inference.layer_outputs import choose_layer
from alexnet.inference.model_probe import ModelProbe
from alexnet.threads import one_thread
from alexnet.train.filters import count_towers, first_filters
from alexnet.train.job import RUN
from alexnet.train.training_receipt import read_finished
from infra.store import open_store
from pipelines.context import refuse_relative_in_a_job
from pipelines.inference.answers import refuse_if_none
from pipelines.inference.nearest import Among, open_among
from pipelines.inference.output_files import check_output_folder
from pipelines.inference.shown_images import MOST_IMAGES, Chooser, Rejected, Shown
from pipelines.inference.shown_neighbours import Neighbourhood
from pipelines.lookup.models import open_model
from pipelines.lookup.related import Related, find_related
from pipelines.recipe import Recipe
from pipelines.reporting.pictures import (
    CONFUSION,
    FILM,
    FILTERS,
    LEAST_IN_FILM,
    draw_training,
    filters_frame,
)
from pipelines.reporting.sources import read_confusion, read_curves, read_frames
from preprocessing.dataset.labels import Classes

PANEL: Final = "panel.png"
MAPS: Final = "maps.png"
SALIENCY: Final = "saliency.png"
NEIGHBOURS: Final = "neighbours.png"
CURVES: Final = "curves.png"
_LETTERS: Final = 50
"""Of a class, above a pair of pictures."""
_NO_RUN: Final = "no training of this network was found in the workspace"
_NO_IMAGES: Final = (
    "no validation images of the dataset it was trained on were found in the workspace: name some"
)


Drawn = Mapping[str, bytes | str]
"""Pictures by file name, or the reasons why they are left out."""


def draw_figures(
    model: str,
    images: Sequence[str],
    *,
    output: str,
    layer: str | None,
    among: str | None,
    workspace: str,
    tracking_uri: str | None,
    stream: IO[str],
) -> dict[str, Any]:
    """Draw what a network learned, and what it makes of some images; write it when all is drawn.

    Args:
        model: as `pipelines.lookup.models.open_model` takes it.
        images: files, folders, Parquet files, datasets; none are some of the validation split of
            the dataset that the network was trained on.
        output: the folder of the pictures, a path or a URI; what else is in it stays.
        layer: whose maps are drawn; none is the one that sees the image.
        among: where neighbours are looked for, as `similar` takes it; none is the validation split
            of the dataset that the network was trained on.
        workspace: where the model, and what belongs to it, is looked for.
        tracking_uri: the MLflow server of a registered model, if not the workspace's own.
        stream: gets what libraries print.

    Returns:
        `model`, `global_step`, `output`, `images` (paths of those that are shown), `pictures` (file
        names), `left_out: {file name: reason}`, `rejected: [{path, reason}]`.

    Raises:
        RecipeError: the output is a file, no such layer, or several runs have the model's name.
        InputRejected: a path that is not there, or none is an image.
        DataError: there is no such model, or something is damaged.
        ServiceError: a place or MLflow is away.
    """
    refuse_relative_in_a_job("the workspace", workspace)
    check_output_folder(output)
    named = [(name, find_parts([name])) for name in images]
    place = None if among is None else open_among(among)
    with (
        redirect_stdout(stream),
        open_model(model, workspace=workspace, tracking_uri=tracking_uri) as (uri, trained),
        one_thread(),
    ):
        if layer is not None:
            choose_layer(trained, layer)  # told where there are no images to draw maps of, too
        related = find_related(uri, trained, workspace)
        probe, classes = ModelProbe(trained), trained.load_classes()
        chooser = Chooser(probe, classes, trained.stored_px, related.evaluation)
        shown, rejected = _choose(chooser, named, related)
        # First: it may be refused, and of a network that diverged nothing can be drawn.
        of_images = _of_images(probe, shown, classes, layer)
        neighbourhood = Neighbourhood(uri, trained, probe, workspace, stream)
        drawn = {
            **_of_network(probe, related),
            **of_images,
            NEIGHBOURS: _neighbours(neighbourhood, shown, place, related, rejected),
            CONFUSION: _confusion(related, classes),
        }
    pictures = {name: body for name, body in drawn.items() if isinstance(body, bytes)}
    for name, body in pictures.items():
        open_store(output).write(name, body)
    return {
        "model": uri,
        "global_step": trained.step,
        "output": open_store(output).uri,
        "images": [image.path for image in shown],
        "pictures": list(pictures),
        "left_out": {name: why for name, why in drawn.items() if isinstance(why, str)},
        "rejected": [{"path": path, "reason": reason} for path, reason in rejected],
    }


def _choose(
    chooser: Chooser, named: Sequence[tuple[str, Sequence[InputPart]]], related: Related
) -> tuple[list[Shown], list[tuple[str, str]]]:
    """Take the first MOST_IMAGES that are images, and list what was met before them and is none."""
    found: Iterable[Shown | Rejected] = ()
    if named:
        found = chooser.named(named)
    elif related.dataset is not None:
        found = chooser.of_dataset(*related.dataset)
    shown: list[Shown] = []
    rejected: list[tuple[str, str]] = []
    for image in found:
        if isinstance(image, Rejected):
            rejected.append((image.path, image.reason))
            continue
        shown.append(image)
        if len(shown) == MOST_IMAGES:
            break
    if named:
        refuse_if_none(len(shown), rejected)
    return shown, rejected


def _of_network(probe: ModelProbe, related: Related) -> Drawn:
    towers = count_towers(probe.weights)
    filters = first_filters(probe.weights).float().numpy()
    return {
        FILTERS: picture_png(filters_frame(filters, towers)),
        FILM: _film(related, towers),
        CURVES: _curves(related),
    }


def _film(related: Related, towers: int) -> bytes | str:
    if related.run is None:
        return _NO_RUN
    frames = read_frames(related.run)
    if len(frames) < LEAST_IN_FILM:
        moments = "1 moment" if frames else "no moment"
        return f"{related.run.uri} has kept the filters of {moments}"
    return draw_film(frames, towers=towers)


def _curves(related: Related) -> bytes | str:
    if related.run is None:
        return _NO_RUN
    try:
        train = Recipe.model_validate_json(related.run.read(RUN)).train
    except ValidationError:
        return f"{related.run.uri}/{RUN} is a recipe of another version"
    training = read_finished(related.run)
    if training is not None:
        steps_per_epoch = training.step // train.epochs
    elif related.dataset is not None:
        steps_per_epoch = -(-related.dataset[1].train.count // train.global_batch)
    else:
        return "how many updates an epoch has is told by the dataset, which was not found"
    drawn = draw_training(train, read_curves(related.run), steps_per_epoch)
    return drawn or f"{related.run.uri} has neither loss nor learning rate yet"


def _of_images(
    probe: ModelProbe, shown: Sequence[Shown], classes: Classes, layer: str | None
) -> Drawn:
    if not shown:
        return dict.fromkeys((PANEL, MAPS, SALIENCY), _NO_IMAGES)
    pixels = [image.pixels for image in shown]
    views, probabilities = probe.views(pixels), probe.probabilities(pixels)
    panel = [
        Prediction(view, best_guesses(of_image), image.label, image.name)
        for view, of_image, image in zip(views, probabilities, shown, strict=True)
    ][:PANEL_IMAGES]
    best = [prediction.guesses[0] for prediction in panel]
    captions = [
        f"{drawable(shortened(classes.names[g.label], _LETTERS), f'class {g.label}')}, "
        f"{g.probability:.2f}"
        for g in best
    ]
    name, maps = probe.maps(pixels, layer)
    gradients = probe.gradients(pixels[:PANEL_IMAGES])
    return {
        PANEL: draw_panel(panel, classes.names),
        MAPS: draw_maps(views, maps, name),
        SALIENCY: draw_saliency(views[:PANEL_IMAGES], gradients, captions),
    }


def _neighbours(
    neighbourhood: Neighbourhood,
    shown: Sequence[Shown],
    among: Among | None,
    related: Related,
    rejected: list[tuple[str, str]],
) -> bytes | str:
    if not shown:
        return _NO_IMAGES
    if among is None:
        return neighbourhood.of_split(shown, related.dataset)
    return neighbourhood.elsewhere(shown, among, rejected)


def _confusion(related: Related, classes: Classes) -> bytes | str:
    if related.evaluation is None:
        return "no evaluation of this network was found in the workspace"
    counts = read_confusion(*related.evaluation, len(classes))
    return draw_confusion(counts, classes.names)
