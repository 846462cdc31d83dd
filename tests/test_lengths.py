import math

from lengths import parse_length


def test_lengths_are_numbers_or_fractions() -> None:
    assert [parse_length(text) for text in (0.25, "0.25", "8/255", "1.5/255")] == [0.25, 0.25, 8 / 255, 1.5 / 255]
    assert all(math.isnan(parse_length(text)) for text in ("much", "1/0", "", "1/2/3", "nan"))
