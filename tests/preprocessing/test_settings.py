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
