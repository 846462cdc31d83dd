import math
import time

from poison_and_defend.core.lengths import parse_length


def test_lengths_are_numbers_or_fractions() -> None:
    assert [parse_length(text) for text in (0.25, "0.25", "8/255", "1.5/255")] == [0.25, 0.25, 8 / 255, 1.5 / 255]
    assert all(math.isnan(parse_length(text)) for text in ("much", "1/0", "", "1/2/3", "nan"))


def test_numbers_of_a_billion_digits_are_none() -> None:
    started = time.perf_counter()
    for text in ("1e999999999", "1E+0099999", "1/1e-999999999", "9" * 10**6, "1_0e1_000_000"):
        assert math.isnan(parse_length(text))
    assert time.perf_counter() - started < 1
    assert parse_length("2.5e-3") == 0.0025 and parse_length("1e-100") == 1e-100
