"""How large a run of the benchmarks is."""

from typing import Annotated

from pydantic import Field

from infra.commit import Frozen


class Settings(Frozen):
    """What is measured on; the sizes are those of the 2012 network."""

    archives: str = "drawn"
    """Name of the archives' folder; `drawn` for images of the project's own."""
    passes: Annotated[int, Field(ge=1)] = 5
    """Passes of each candidate; its base has one more."""
    images: Annotated[int, Field(ge=1)] = 40_000
    """Images of a pass of the loader and of the bare loop; below 20,000 passes mislead."""
    seconds: Annotated[float, Field(gt=0)] = 20.0
    """How long a pass of training lasts, about."""
    drawn_per_class: Annotated[int, Field(ge=1)] = 400
    """Training images a class, of ten classes, when they are drawn."""
    stored_px: int = 256
    quality: int = 90
    crop_px: int = 224
    width: float = 1.0
    global_batch: int = 128
    num_classes: int = 1000
    """Outputs of the network, whatever the dataset has."""
    quick: bool = False
    """Tiny sizes, to see that everything runs."""


QUICK = Settings(
    passes=1,
    images=1200,
    seconds=0.2,
    drawn_per_class=24,
    stored_px=64,
    crop_px=56,
    width=0.1,
    global_batch=32,
    num_classes=10,
    quick=True,
)
"""As small as shows that everything runs; the figures mean nothing."""
