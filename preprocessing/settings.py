"""What a recipe says about a dataset: where its images are, and how they are stored."""

from typing import Final

from pydantic import Field, field_validator, model_validator

from infra.commit import Frozen
from preprocessing.dataset.stored import ChromaName, EncodingName, ShapeName

DRAWN: Final = "drawn"
"""The word that stands in `archives` for archives the system draws itself."""
SOURCES: Final = ("archives", "folder", "cifar", "huggingface", "webdataset")
"""The settings of a dataset that say where its images are."""


class DrawnSettings(Frozen):
    """Archives of drawn images, to try everything without a download."""

    num_classes: int = Field(
        default=10, ge=2, le=10, description="Classes; each is a shape or a texture."
    )
    train_per_class: int = Field(
        default=200, ge=1, le=10_000, description="Training images a class."
    )
    val_per_class: int = Field(
        default=50, ge=1, le=10_000, description="Validation images a class."
    )
    seed: int = Field(default=0, ge=0, description="Another seed draws other images.")


class DatasetSettings(Frozen):
    """Which images: exactly one source, in one of five layouts."""

    name: str = Field(
        default="imagenet",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        max_length=64,
        description="Names the dataset's folder: small letters, digits, hyphens.",
    )
    archives: str | None = Field(
        default=None,
        min_length=1,
        description="Directory or URI of the three official archives; `drawn` draws small ones.",
    )
    folder: str | None = Field(
        default=None,
        min_length=1,
        description="Directory or URI of a folder per class, below train/ and val/ or neither.",
    )
    cifar: str | None = Field(
        default=None,
        min_length=1,
        description="Directory or URI of CIFAR-10 or CIFAR-100 as Python pickles, unpacked.",
    )
    huggingface: str | None = Field(
        default=None,
        min_length=1,
        description="Directory or URI of a Hugging Face image dataset's Parquet files.",
    )
    webdataset: str | None = Field(
        default=None,
        min_length=1,
        description="Directory or URI of WebDataset tars: an image and a label a sample.",
    )
    fingerprint: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="The dataset's fingerprint, when it is known: any other is refused.",
    )
    drawn: DrawnSettings = Field(
        default_factory=DrawnSettings, description="What is drawn when archives is `drawn`."
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> "DatasetSettings":
        if sum(getattr(self, name) is not None for name in SOURCES) != 1:
            raise ValueError(f"give exactly one of {', '.join(SOURCES)}")
        return self


class PrepareSettings(Frozen):
    """How images are rendered into shards. All but the last two decide bytes.

    `quality` and `chroma` only where images are encoded as JPEGs.
    """

    stored_px: int = Field(
        default=256, ge=8, le=4096, description="Shorter side of the stored images, in pixels."
    )
    shape: ShapeName = Field(
        default="square",
        description="`square`: the central square, as in 2012; `keep-aspect`: all of the image;"
        " `original`: the file's bytes as they are, scaled when they are read.",
    )
    encoding: EncodingName = Field(
        default="jpeg",
        description="`jpeg`, or `raw`: the pixels themselves, to be read without decoding.",
    )
    quality: int = Field(default=90, ge=1, le=100, description="JPEG quality of the stored images.")
    chroma: ChromaName = Field(
        default="420", description="JPEG colour: `420`, at half resolution, or `444`, at full."
    )
    seed: int = Field(
        default=0, ge=0, description="Keys the order of samples, and a folder's split."
    )
    rows_per_group: int = Field(
        default=64, ge=1, description="Rows of a row group: the unit of reading."
    )
    rows_per_shard: int = Field(
        default=8960, ge=1, description="Planned rows of a shard: a multiple of rows_per_group."
    )
    val_fraction: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of each class kept for validation, where a source has none.",
    )
    max_rejects: int = Field(
        default=0,
        ge=0,
        description="Images that may fail to decode; one more and nothing is committed.",
    )
    parallelism: int | None = Field(
        default=None,
        ge=1,
        description="Shards rendered at a time; none: as many as the cluster has CPUs.",
    )

    def deciding(self) -> dict[str, str | int | float]:
        """Return what decides a dataset's bytes, `val_fraction` by the split it makes."""
        left_out = {"max_rejects", "parallelism"}
        if self.shape == "original" or self.encoding == "raw":
            left_out |= {"quality", "chroma"}
        return self.model_dump(exclude=left_out)

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
