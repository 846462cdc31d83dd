import inspect
import json
from pathlib import Path

import pytest
import torch
import yaml

from poison_and_defend import defenses
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import (
    Arm,
    Chain,
    Defense,
    Diffusion,
    Jpeg,
    Mixup,
    NoiseOnly,
    Partition,
    Rewriter,
    SpectralSignatures,
)
from poison_and_defend.defenses.arm import KINDS, make_arms, refuse_twins
from poison_and_defend.defenses.rewriters.in_order import in_order
from tests.countermeasures import rewriter

CONFIGS = Path(defenses.__file__).parents[1] / "poison_and_defend" / "configs" / "defense"


def test_all_four_kinds_in_their_order_make_an_arm() -> None:
    steps = (Jpeg(), NoiseOnly(0.1), SpectralSignatures(), Mixup(), Partition())
    arm = Arm("all", steps)
    assert (arm.rewriters, arm.filters, arm.training, arm.voting) == (steps[:2], steps[2:3], steps[3], steps[4])
    assert arm.sigma == 0.1
    assert Arm("none").rewriters == () and Arm("none").voting is None and Arm("none").training.name == "plain"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((SpectralSignatures(), Jpeg()), "rewriters after filters"),
        ((Mixup(), SpectralSignatures()), "filters after training recipes"),
        ((Partition(), Mixup()), "training recipes after votes"),
        ((Mixup(), Mixup()), "2 training recipes"),
        ((Partition(), Partition(3)), "2 votes"),
    ],
)
def test_another_order_and_two_of_what_is_one_are_refused(steps: tuple[Defense, ...], message: str) -> None:
    with pytest.raises(InputError, match=rf"the arm mine has {message}: the order is rewriters, filters.*\(--defenses\)"):
        Arm("mine", steps)


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "x" * 81])
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="is no name of an arm"):
        Arm(name)


def test_a_single_rewriters_settings_are_what_they_were_before_there_were_arms(denoiser) -> None:
    diffusion = Diffusion(0.25, denoiser, seed=4)
    assert Arm("diffusion", (diffusion,)).settings() == diffusion.settings()
    assert Arm("x", (Jpeg(), Mixup())).settings() == {"steps": [Jpeg().settings(), Mixup().settings()]}
    assert Arm("no_attack", attacked=False).settings() == {"steps": [], "attacked": False}
    json.dumps(Arm("x", (Jpeg(), SpectralSignatures(), Mixup(), Partition())).settings())


def test_labels_and_colours_come_from_the_classes() -> None:
    assert [Arm("none").label, Arm("no_attack", attacked=False).label, Arm("jpeg", (Jpeg(),)).label] == [
        "undefended",
        "no attack",
        "JPEG",
    ]
    assert Arm("jpeg+mixup", (Jpeg(), Mixup())).label == "JPEG + mixup"
    assert Arm("strong_jpeg", (Jpeg(10),)).label == "strong jpeg"
    assert Arm("no_attack+jpeg", (Jpeg(),), attacked=False).label == "JPEG, no attack"
    assert Arm("jpeg", (Jpeg(),)).color == Jpeg.color


def test_a_votes_bound_is_refused_where_something_before_it_looked_at_the_whole_set() -> None:
    assert Arm("vote", (Jpeg(), Mixup(), Partition())).unproved is None
    assert Arm("filter", (SpectralSignatures(),)).unproved is None
    told = Arm("both", (SpectralSignatures(), Partition())).unproved
    assert told is not None and told.startswith("spectral_signatures looked at the whole set")


def test_what_is_left_out_is_shared_by_all_arms_and_chains_are_flattened() -> None:
    given = {"a": Jpeg(), "b": Chain([Chain([Jpeg(20), Mixup()]), Partition()]), "none": None, "c": Chain(attacked=False)}
    arms = make_arms(given, quality=33)
    assert arms["a"].rewriters[0].settings()["jpeg_quality"] == 33
    assert arms["b"].rewriters[0].settings()["jpeg_quality"] == 20
    assert [type(step) for step in arms["b"].steps] == [Jpeg, Mixup, Partition]
    assert arms["none"].steps == () and not arms["c"].attacked


def test_no_arm_and_two_that_are_one_are_refused() -> None:
    with pytest.raises(InputError, match="no arm is named"):
        make_arms({})
    with pytest.raises(InputError, match=r"the arms a and b are the same.*--arms.b"):
        refuse_twins(make_arms({"a": Jpeg(), "b": Jpeg(75)}, quality=75))
    with pytest.raises(InputError, match=r"Defense in the arm x is no rewriter"):
        make_arms({"x": type("MyDefense", (Defense,), {"name": "mine"})()})


def test_every_countermeasure_has_a_preset_and_every_preset_is_one() -> None:
    kinds = tuple(kind for kind, _ in KINDS)
    own = [value for value in vars(defenses).values() if isinstance(value, type) and issubclass(value, kinds)]
    known = {value.name for value in own if value not in kinds and not inspect.isabstract(value)} - {"plain"}
    presets = {path.stem: yaml.safe_load(path.read_text()) for path in CONFIGS.glob("*.yaml")}
    # Each class has one under its own name, and may have others.
    assert known <= set(presets)
    for name in set(presets) - {"none", "no_attack"}:
        value = presets[name]
        built = getattr(defenses, value["class_path"])(**value.get("init_args", {}))
        assert built.name == (name if name in known else built.name) and built.name in known
        assert isinstance(json.dumps(built.settings()), str)


def test_rewriters_in_order_are_one(images, denoiser) -> None:
    rows = torch.arange(len(images))
    noise, jpeg = NoiseOnly(0.1, seed=3), Jpeg(30)
    both = in_order([noise, jpeg])
    assert torch.equal(both(images, rows), jpeg(noise(images, rows), rows))
    assert both.settings() == {"steps": [noise.settings(), jpeg.settings()]} and both.sigma == 0.1
    assert in_order([jpeg]) is jpeg and in_order([]) is None


def test_two_noises_of_one_seed_are_drawn_apart() -> None:
    grey, rows = torch.full((20, 1, 16, 16), 128, dtype=torch.uint8), torch.arange(20)
    twice = in_order([NoiseOnly(0.1, seed=3), NoiseOnly(0.1, seed=3)])
    assert (twice(grey, rows).float() / 255).std().item() == pytest.approx(0.1 * 2**0.5, rel=0.05)


@pytest.mark.parametrize("name", ["diffusion", "noise_only", "denoise_only", "jpeg"])
def test_rewriters_are_row_local(name: str, images, denoiser) -> None:
    own: Rewriter = rewriter(name, denoiser=denoiser)
    order = torch.tensor([3, 1, 0])
    assert torch.equal(own(images[order], order), own(images, torch.arange(len(images)))[order])
