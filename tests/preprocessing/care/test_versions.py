import pytest

from preprocessing.care.versions import versions_text

HERE = {"pillow": "13.0.0", "pyarrow": "25.0.1"}


@pytest.mark.parametrize(
    ("made_with", "text"),
    [
        (HERE, "the libraries have the versions it was made with"),
        ({**HERE, "pillow": "12.1.0"}, "it was made with pillow 12.1.0, here 13.0.0"),
        ({"pillow": "13.0.0"}, "it was made with pyarrow unknown, here 25.0.1"),
        (
            {"libjpeg": "9", "pillow": "12.1.0", "pyarrow": "25.0.1"},
            "it was made with libjpeg 9, here none; pillow 12.1.0, here 13.0.0",
        ),
    ],
)
def test_the_libraries_that_differ_are_named(made_with: dict[str, str], text: str) -> None:
    assert versions_text(made_with, HERE) == text
