from pathlib import Path

import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.storage.ledger import BlockStore, compare_settings
from poison_and_defend.storage.records import RowRecord


def begun(folder: Path, count: int = 10, block: int = 4) -> BlockStore:
    store = BlockStore(folder / "work", "--out")
    store.create(lambda partial: {"settings": {"sigma": 1}, "count": count, "block": block})
    return store


def records(store: BlockStore, block: int) -> list[RowRecord]:
    return [RowRecord(row, f"{row}.jpg", f"{row}.png", "sanitized", "", "a", "b") for row in store.rows(block)]


def test_blocks_cover_all_rows_once_and_each_is_claimed_by_one(tmp_path) -> None:
    one = begun(tmp_path)
    two = BlockStore(tmp_path / "work", "--out")
    claimed = [one.claim(), two.claim(), one.claim(), two.claim(), one.claim()]
    assert sorted(block for block in claimed if block is not None) == [0, 1, 2] and claimed[3:] == [None, None]
    assert sorted(row for block in range(one.blocks) for row in one.rows(block)) == list(range(10))


def test_a_block_given_back_is_claimed_by_another_and_a_done_one_is_not(tmp_path) -> None:
    one, two = begun(tmp_path), BlockStore(tmp_path / "work", "--out")
    block = one.claim()
    one.record(block, records(one, block))
    assert one.rows_done() == len(one.rows(block))
    others = [one.claim(), one.claim()]
    one.release_all()
    assert sorted([two.claim(), two.claim()]) == sorted(others) and two.claim() is None


def test_finishing_waits_for_the_last_row_and_happens_once(tmp_path) -> None:
    store, other, published = begun(tmp_path), BlockStore(tmp_path / "work", "--out"), []
    other.plan

    def publish(rows: Path, manifest: dict) -> None:
        published.append((rows.read_text().splitlines(), manifest))

    while (block := store.claim()) is not None:
        assert not store.finish(publish)
        store.record(block, records(store, block))
    assert store.finish(publish) and not other.finish(publish)
    ((lines, manifest),) = published
    assert [line.split(",")[0] for line in lines] == ["row", *map(str, range(10))]
    assert manifest["count"] == manifest["sanitized"] == 10 and manifest["not_sanitized"] == []
    assert not list(tmp_path.iterdir())
    # Whoever comes late sees that all is done, and does no harm.
    assert other.rows_done() == 10 and other.claim() is None
    other.record(0, records(other, 0))
    assert not list(tmp_path.iterdir())


def test_a_begin_that_fails_leaves_nothing(tmp_path) -> None:
    store = BlockStore(tmp_path / "work", "--out")
    with pytest.raises(InputError, match="no such"):
        store.create(lambda partial: (_ for _ in ()).throw(InputError("no such input")))
    assert not list(tmp_path.iterdir())


def test_settings_are_compared_by_name_and_none_takes_what_is_there() -> None:
    compare_settings({"a": 1, "b": 2}, {"a": 1, "b": None}, "x", "--out")
    for wanted, text in (
        ({"a": 2, "b": 2}, "a = 1, now it is 2"),
        ({"a": 1}, "b = 2, now it is None"),
    ):
        with pytest.raises(InputError, match=rf"x was made with {text}.*\(--out\)"):
            compare_settings({"a": 1, "b": 2}, wanted, "x", "--out")
    with pytest.raises(InputError, match=r"x does not say with which c it was made.*\(--out\)"):
        compare_settings({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": None}, "x", "--out")
