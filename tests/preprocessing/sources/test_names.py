from preprocessing.sources.names import is_name, is_utf8


def test_a_name_is_one_line_of_text() -> None:
    for name in ("tench, Tinca tinca", "größe", "日本", "a\u00a0b"):
        assert is_name(name)
    for other in ("", "a\n", "a\0", "\ud800", "x" * 1001, b"a", None, 3):
        assert not is_name(other)


def test_bytes_that_are_no_text_are_told_from_text() -> None:
    assert is_utf8("größe-日本-🍎")
    assert not is_utf8(b"\xff".decode("utf-8", "surrogateescape"))
