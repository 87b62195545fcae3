import io

import pytest
from PIL import Image

from preprocessing.dataset.pixels import FORMATS, decode_image
from preprocessing.errors import ImageRejected


def image_as(format: str) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(sink, format)
    return sink.getvalue()


@pytest.mark.parametrize("format", [*FORMATS, "MPO"])
def test_common_formats_are_decoded_red_first(format: str) -> None:
    pixels = decode_image(image_as(format))
    assert pixels.shape == (6, 8, 3)
    assert pixels[..., 0].min() > 200
    assert pixels[..., 1:].max() < 60


@pytest.mark.parametrize("format", ["EPS", "DDS", "ICO", "PDF"])
def test_others_are_refused_unread(format: str) -> None:
    with pytest.raises(ImageRejected, match="not an image"):
        decode_image(image_as(format))


def test_what_pillow_has_not_implemented_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("no such variant")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ImageRejected, match="no such variant"):
        decode_image(b"BM")
