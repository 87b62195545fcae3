import pytest
from pydantic import ValidationError

from preprocessing.settings import SOURCES, DatasetSettings, PrepareSettings


@pytest.mark.parametrize(
    "given", [{}, {"archives": "a", "folder": "b"}, {"cifar": "a", "webdataset": "b"}]
)
def test_a_dataset_has_exactly_one_source(given: dict[str, str]) -> None:
    for source in SOURCES:
        assert DatasetSettings(**{source: "a"}).model_dump()[source] == "a"
    with pytest.raises(ValidationError, match="exactly one"):
        DatasetSettings(**given)


def test_a_shard_holds_whole_groups() -> None:
    with pytest.raises(ValidationError, match="no multiple"):
        PrepareSettings(rows_per_group=64, rows_per_shard=100)


def test_a_fingerprint_is_64_hex_digits() -> None:
    with pytest.raises(ValidationError):
        DatasetSettings(archives="drawn", fingerprint="abc")


def test_every_setting_is_described() -> None:
    for settings in (DatasetSettings, PrepareSettings):
        assert all(field.description for field in settings.model_fields.values())


@pytest.mark.parametrize("given", [444, "444"])
def test_chroma_may_be_written_as_a_number(given: object) -> None:
    assert PrepareSettings.model_validate({"chroma": given}).chroma == "444"


def test_originals_cannot_be_raw() -> None:
    with pytest.raises(ValidationError, match="keeps the files' bytes"):
        PrepareSettings(shape="original", encoding="raw")


@pytest.mark.parametrize("stored", [{"encoding": "raw"}, {"shape": "original"}])
def test_jpegs_settings_decide_nothing_where_none_is_encoded(stored: dict[str, str]) -> None:
    options = PrepareSettings(**stored).deciding()
    assert PrepareSettings(**stored, quality=50, chroma="444").deciding() == options
    assert not {"quality", "chroma"} & set(options)


def test_where_jpegs_are_encoded_all_that_decided_before_still_does() -> None:
    """Else the keys of datasets that there are would change."""
    assert list(PrepareSettings().deciding()) == [
        "stored_px",
        "shape",
        "encoding",
        "quality",
        "chroma",
        "seed",
        "rows_per_group",
        "rows_per_shard",
        "val_fraction",
    ]
