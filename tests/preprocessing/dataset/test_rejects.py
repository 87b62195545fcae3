from preprocessing.dataset.manifest import Reject
from preprocessing.dataset.rejects import rejects_table


def test_a_table_without_rejects_has_columns() -> None:
    assert rejects_table([]).column_names == list(Reject.model_fields)
