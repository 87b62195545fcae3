"""How wide a layer is and how large its maps: the arithmetic both networks share."""

from alexnet.model.errors import ModelError


def scaled_channels(full: int, width: float) -> int:
    """Return `width` times the full-size count, as a whole multiple of 8 and at least 8."""
    return 8 * max(1, round(full * width / 8))


def ceil_windows(size: int, window: int, stride: int) -> int:
    """Count the windows over `size` pixels when the last one may overhang the edge.

    Zero or less where the map vanishes. Source: the release's size rule (`layer.py`), pad 0.
    """
    return 1 + -((window - size) // stride)


def check_network_options(
    *, num_classes: int, image_size: int, smallest: int, width: float, dropout: float
) -> None:
    """Refuse options no network can be built from.

    Args:
        smallest: image side in pixels below which a map of the network at hand vanishes.

    Raises:
        ModelError: names the option, its value and what would work.
    """
    if num_classes < 1:
        raise ModelError(f"num_classes is {num_classes}", "give at least 1")
    if image_size < smallest:
        raise ModelError(
            f"image_size is {image_size} pixels, and a map of the network vanishes",
            f"the smallest size that works is {smallest}",
        )
    if not width > 0:
        raise ModelError(f"width is {width}", "give a factor above 0; 1 is the full network")
    if not 0 <= dropout < 1:
        raise ModelError(f"dropout is {dropout}", "give the share to drop, at least 0 and below 1")
