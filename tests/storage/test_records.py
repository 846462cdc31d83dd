import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.storage.records import HEADER, RowRecord, read_records, to_lines


def test_any_name_survives(tmp_path) -> None:
    records = [
        RowRecord(0, 'a,"b".jpg', "x/é\n.png", "sanitized", "", "00", "11"),
        RowRecord(1, "b.jpg", "", "skipped", "line\u2028end, and more", "", ""),
    ]
    (tmp_path / "rows.csv").write_text(HEADER + to_lines(records), encoding="utf-8", newline="")
    assert list(read_records(tmp_path / "rows.csv")) == records


@pytest.mark.parametrize("text", ["", "row,file\n", HEADER + "x,a,b,sanitized,,0,0\n", HEADER + "1,a\n"])
def test_another_file_is_refused(tmp_path, text: str) -> None:
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(InputError, match="is no list of sanitized images"):
        list(read_records(tmp_path / "rows.csv"))
