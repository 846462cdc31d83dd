import pytest

from poison_and_defend.core.errors import InputError


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[31mb", "a\0b", "a\ud800b", "a\u202eb"])
def test_what_a_terminal_would_obey_is_written_out(text: str) -> None:
    message = str(InputError(text))
    assert message.isprintable() and message[0] == "a" and message[-1] == "b" and ascii(text)[2:-2] in message


def test_sentences_stay_as_they_are_and_books_are_cut() -> None:
    assert str(InputError("sigma is -1: it is at least 0 (--sigma) \u00e9")) == "sigma is -1: it is at least 0 (--sigma) \u00e9"
    message = str(InputError(f"x is {'9' * 100_000} (--x)"))
    assert len(message) < 3100 and message.startswith("x is 9") and message.endswith("9 (--x)")
