import pytest

from poison_and_defend.cli import presets
from poison_and_defend.cli.presets import expand_presets
from poison_and_defend.core.errors import InputError


def test_a_name_stands_for_a_file_that_comes_first() -> None:
    words = expand_presets(["--sigma=1", "--attack", "poison_frogs"])
    assert words[0] == "--config" and words[1].endswith("configs/attack/poison_frogs.yaml") and words[2:] == ["--sigma=1"]


def test_without_presets_the_sentence_says_where_they_were_looked_for_and_what_works(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(presets, "_ROOT", tmp_path)
    with pytest.raises(InputError, match=r"no presets in .*configs/attack.*YAML file by its path.*BullseyePolytope") as refusal:
        expand_presets(["--attack=poison_frogs"])
    assert "choose from" not in str(refusal.value)
    own = tmp_path / "own.yaml"
    own.write_text("attack: BullseyePolytope\n")
    assert expand_presets([f"--attack={own}"]) == ["--config", str(own)]
    assert expand_presets(["--attack=BullseyePolytope"]) == ["--attack", "BullseyePolytope"]
