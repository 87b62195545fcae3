import pytest
from pydantic import ValidationError

from infra.commit import write_object
from infra.store import MemoryStore
from preprocessing.dataset.labels import Classes, make_classes, read_classes
from preprocessing.errors import ManifestError

CLASSES = make_classes({"n2": "dog", "n1": "cat", "n10": "dog"})


def test_labels_are_ranks_of_the_sorted_keys() -> None:
    assert CLASSES.label_of == {"n1": 0, "n10": 1, "n2": 2}
    assert CLASSES.names == ("cat", "dog (n10)", "dog (n2)")


def test_what_is_written_is_read_back() -> None:
    store = MemoryStore()
    assert read_classes(store, write_object(store, "c.json", CLASSES.to_bytes())) == CLASSES


def test_classes_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="not sorted"):
        Classes(classes=CLASSES.classes[::-1])


def test_another_file_is_refused() -> None:
    store = MemoryStore()
    with pytest.raises(ManifestError, match="cannot be read") as caught:
        read_classes(store, write_object(store, "c.json", b"{}"))
    assert "delete the dataset's folder" in caught.value.remedy
