import pytest

from poison_and_defend.certification import Ingredient, void_reasons, vouch
from poison_and_defend.core.errors import InputError

SOUND = [Ingredient("normalization", "fixed", "constants"), Ingredient("features", "trusted", "public")]
UNKNOWN = Ingredient("denoiser", "unknown", "nobody says what it saw")
RAW = Ingredient("warm start", "raw", "it saw the received images")


def test_only_what_saw_the_raw_set_or_may_have_voids() -> None:
    assert void_reasons(SOUND) == []
    assert void_reasons([*SOUND, UNKNOWN, RAW]) == [
        "denoiser (unknown): nobody says what it saw",
        "warm start (raw): it saw the received images",
    ]


def test_a_word_mends_the_unknown_and_is_recorded() -> None:
    mended = vouch([*SOUND, UNKNOWN], ["denoiser"])
    assert void_reasons(mended) == []
    assert mended[-1] == Ingredient("denoiser", "vouched", "nobody says what it saw; the user vouches for it")
    assert vouch(SOUND, ["features"]) == SOUND


def test_no_word_mends_what_is_known_to_be_raw() -> None:
    with pytest.raises(InputError, match=r"nobody can vouch for the warm start: it saw"):
        vouch([RAW], ["warm start"])
    with pytest.raises(InputError, match=r"'denoiser' is no part .* vouch for normalization, features"):
        vouch(SOUND, ["denoiser"])
