"""Progress where there is no terminal: lines now and then, each with what is left."""

import pytest

from poison_and_defend.core import progress
from poison_and_defend.core.progress import BETWEEN_LINES, StoreProgress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_a_minute_and_one_at_the_end(capsys, clock) -> None:
    with StoreProgress("craft") as bar:
        # Five of thirteen were there before.
        for done in range(5, 14):
            bar(done, 13, "steps")
            clock[0] += BETWEEN_LINES / 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "craft: 7 of 13 steps, about 3 min left",
        "craft: 9 of 13 steps, about 2 min left",
        "craft: 11 of 13 steps, about 60 s left",
        "craft: 13 of 13 steps",
    ]


def test_what_takes_less_than_a_minute_is_told_once_and_by_the_first_rank_alone(capsys, clock) -> None:
    for enabled in (True, False):
        with StoreProgress("judge", enabled=enabled) as bar:
            for done in range(1, 4):
                clock[0] += BETWEEN_LINES / 4
                bar(done, 3)
    assert capsys.readouterr().err.splitlines() == ["judge: 3 of 3"]
