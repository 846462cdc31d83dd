import pytest

from poison_and_defend.cli.options.presets import CONFIGS, config_path, expand, preset_names
from poison_and_defend.core.errors import InputError


def test_an_attacks_name_stands_for_a_file_that_comes_first() -> None:
    words = expand(["--sigma=1", "--attack", "poison_frogs"])
    assert words == ["--config", str(CONFIGS / "attack" / "poison_frogs.yaml"), "--sigma=1"]


def test_presets_are_found_from_any_folder_and_before_paths(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "gpu.yaml").write_text("a: 1\n")
    assert config_path("trainer/gpu") == str(CONFIGS / "trainer" / "gpu.yaml")
    assert config_path("./trainer/gpu.yaml") == "./trainer/gpu.yaml"
    assert expand(["--config=certify/mnist", "--config", "digits"]) == [
        "--config", str(CONFIGS / "certify" / "mnist.yaml"), "--config", str(CONFIGS / "digits.yaml"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_found_under_the_name_that_it_had_in_a_clone(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_path(f"configs/{name}.yaml") == str(CONFIGS / f"{name}.yaml")
    if name.startswith("attack/"):
        assert expand(["--attack", f"configs/{name}.yaml"]) == ["--config", str(CONFIGS / f"{name}.yaml")]


def test_an_unknown_attack_is_refused_with_all_that_there_are_and_what_else_works(tmp_path) -> None:
    with pytest.raises(InputError, match=r"'voodoo' is not an attack: choose from .*benchmark/bullseye.*YAML file by its path"):
        expand(["--attack=voodoo"])
    with pytest.raises(InputError, match=r"^'paper/poison_frogs' is not here, .*\(--attack arguments/poison_frogs\)$"):
        expand(["--attack", "paper/poison_frogs"])
    assert expand(["--attack", "paper/witches_brew"])[1].endswith("paper/witches_brew.yaml")
    own = tmp_path / "own.yaml"
    own.write_text("attack: BullseyePolytope\n")
    assert expand([f"--attack={own}"]) == ["--config", str(own)]
    assert expand(["--attack=BullseyePolytope"]) == ["--attack", "BullseyePolytope"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--network vgg11", "--network.build vgg11"),
        ("--network=hf:a/b --network.size 64", "--network.build hf:a/b --network.size 64"),
        ("--networks.mine=a.B", "--networks.mine.build a.B"),
        ("--model.network vgg11", "--model.network.build vgg11"),
        ("--network {build:x}", "--network {build:x}"),
        ("--network own.yaml", "--network own.yaml"),
    ],
)
def test_one_word_describes_a_network(typed: str, meant: str) -> None:
    assert expand(typed.split()) == meant.split()
