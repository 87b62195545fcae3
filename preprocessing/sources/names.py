"""What can be the name of an image or a class."""

import unicodedata
from typing import Final, TypeGuard

MAX_LENGTH: Final = 1000


def is_name(value: object) -> TypeGuard[str]:
    """Whether a value is one line of text that UTF-8 can hold."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_LENGTH
        and not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in value)
    )


def is_utf8(name: str) -> bool:
    """Whether a file's name is text: other bytes come as surrogates from a file system or a tar."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)
