"""What a recipe says about a dataset: where its images are, and how they are stored."""

from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator

from infra.commit import Frozen
from preprocessing.dataset.stored import ChromaName, EncodingName, ShapeName

DRAWN: Final = "drawn"
"""The word that stands in `archives` for archives the system draws itself."""
SOURCES: Final = ("archives", "folder", "cifar", "huggingface", "webdataset")
"""The settings of a dataset that say where its images are."""


class DrawnSettings(Frozen):
    """Archives of drawn images, to try everything without a download."""

    num_classes: Annotated[int, Field(ge=2, le=10)] = 10
    """Classes; each is a shape or a texture."""
    train_per_class: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Training images a class."""
    val_per_class: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Validation images a class."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed draws other images."""


Place = Annotated[str, Field(min_length=1)]


class DatasetSettings(Frozen):
    """Which images: exactly one source, in one of five layouts."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)] = "imagenet"
    """Names the dataset's folder: small letters, digits, hyphens."""
    archives: Place | None = None
    """Directory or URI of the three official archives; `drawn` draws small ones."""
    folder: Place | None = None
    """Directory or URI of a folder per class, below train/ and val/ or neither."""
    cifar: Place | None = None
    """Directory or URI of CIFAR-10 or CIFAR-100 as Python pickles, unpacked."""
    huggingface: Place | None = None
    """Directory or URI of a Hugging Face image dataset's Parquet files."""
    webdataset: Place | None = None
    """Directory or URI of WebDataset tars: an image and a label a sample."""
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The dataset's fingerprint, when it is known: any other is refused."""
    drawn: DrawnSettings = DrawnSettings()
    """What is drawn when archives is `drawn`."""

    @model_validator(mode="after")
    def _has_one_source(self) -> "DatasetSettings":
        if sum(getattr(self, name) is not None for name in SOURCES) != 1:
            raise ValueError(f"give exactly one of {', '.join(SOURCES)}")
        return self


class PrepareSettings(Frozen):
    """How images are rendered into shards. All but the last two decide bytes.

    `quality` and `chroma` only where images are encoded as JPEGs.
    """

    stored_px: Annotated[int, Field(ge=8, le=4096)] = 256
    """Shorter side of the stored images, in pixels."""
    shape: ShapeName = "square"
    """`square`: the central square, as in 2012; `keep-aspect`: all of the image; `original`: the
    file's bytes as they are, scaled when they are read."""
    encoding: EncodingName = "jpeg"
    """`jpeg`, or `raw`: the pixels themselves, to be read without decoding."""
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    """JPEG quality of the stored images."""
    chroma: ChromaName = "420"
    """JPEG colour: `420`, at half resolution, or `444`, at full."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Keys the order of samples, and a folder's split."""
    rows_per_group: Annotated[int, Field(ge=1)] = 64
    """Rows of a row group: the unit of reading."""
    rows_per_shard: Annotated[int, Field(ge=1)] = 8960
    """Planned rows of a shard: a multiple of rows_per_group."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each class kept for validation, where a source has none."""
    max_rejects: Annotated[int, Field(ge=0)] = 0
    """Images that may fail to decode; one more and nothing is committed."""
    parallelism: Annotated[int, Field(ge=1)] | None = None
    """Shards rendered at a time; none: as many as the cluster has CPUs."""

    def deciding(self) -> dict[str, str | int | float]:
        """Return what decides a dataset's bytes, `val_fraction` by the split it makes."""
        options = self.all_but_how_it_is_built()
        if self.shape == "original" or self.encoding == "raw":
            del options["quality"], options["chroma"]
        return options

    def all_but_how_it_is_built(self) -> dict[str, str | int | float]:
        """Return all settings but `max_rejects` and `parallelism`."""
        return self.model_dump(exclude={"max_rejects", "parallelism"})

    @field_validator("chroma", mode="before")
    @classmethod
    def _digits_are_text(cls, value: object) -> object:
        """YAML takes 444 for a number."""
        return str(value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _shards_hold_whole_groups(self) -> "PrepareSettings":
        if self.rows_per_shard % self.rows_per_group:
            raise ValueError(
                f"rows_per_shard {self.rows_per_shard} is no multiple of"
                f" rows_per_group {self.rows_per_group}"
            )
        return self

    @model_validator(mode="after")
    def _originals_are_not_encoded(self) -> "PrepareSettings":
        if self.shape == "original" and self.encoding != "jpeg":
            raise ValueError("shape original keeps the files' bytes: leave encoding out")
        return self
