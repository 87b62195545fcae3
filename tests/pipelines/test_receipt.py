import json
import re
from pathlib import Path

import pytest

from alexnet.receipt.page import receipt_page
from infra.errors import DataError
from pipelines.receipt import RESULTS, print_receipt, read_measurements, receipt_fields

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "receipt.md"


def test_the_committed_page_is_what_the_command_prints() -> None:
    """`make receipt` writes it anew."""
    assert PAGE.read_text() == receipt_page(read_measurements()) + "\n"


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGE.read_text())
    assert len(links) > 100
    assert [link for link in links if not (PAGE.parent / link).is_file()] == []


def test_what_was_measured_lies_with_the_other_results() -> None:
    assert RESULTS == ROOT / "benchmarks" / "results" / "receipt.json"


def test_without_results_nothing_is_measured(tmp_path: Path) -> None:
    assert read_measurements(tmp_path / "none.json") is None
    fields = receipt_fields(None)
    assert {element["measured"] for element in fields["elements"]} == {None}
    assert fields["measurements"] is None


def test_a_command_without_results_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    print_receipt(as_json=True)
    assert not capsys.readouterr().err
    monkeypatch.setattr("pipelines.receipt.RESULTS", tmp_path / "none.json")
    print_receipt(as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["measurements"] is None
    assert str(tmp_path / "none.json") in printed.err


def test_results_that_cannot_be_read_are_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "receipt.json").write_text('{"schema_version": 99}')
    with pytest.raises(DataError, match="not a series of runs") as caught:
        read_measurements(tmp_path / "receipt.json")
    assert "make bench-receipt" in caught.value.remedy


def test_json_has_every_element_with_code_tests_and_effect() -> None:
    fields = json.loads(json.dumps(receipt_fields(read_measurements()), allow_nan=False))
    elements = {element["name"]: element for element in fields["elements"]}
    assert elements["dropout"]["code"] == ["alexnet/model/dropout.py::KeyedDropout"]
    assert elements["across maps"]["published"]["top1_points"] == 1.37
    assert all(element["tests"] for element in elements.values())
