import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from poison_and_defend.attacks import Attack
from poison_and_defend.attacks.threat.patch import _mix
from poison_and_defend.attacks.threat.trigger import CornerTrigger, PatchTrigger, Trigger
from poison_and_defend.core.errors import InputError

# The picture that the paper prints, 1 for white.
RIGHT = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 1]], np.uint8) * 255
LEFT = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1]], np.uint8) * 255


def images(count: int = 4, channels: int = 3, height: int = 14, width: int = 18) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def keys(count: int) -> torch.Tensor:
    return torch.arange(count)


def test_the_corner_pattern_is_the_papers_and_mirrored_on_the_left() -> None:
    stamped = CornerTrigger().build((3, 14, 18)).stamp(images(), keys(4)).numpy()
    for image in stamped.reshape(-1, 14, 18):
        for rows in (slice(0, 3), slice(11, 14)):
            assert (image[rows, 15:] == RIGHT).all() and (image[rows, :3] == LEFT).all()
    one = CornerTrigger(corners="bottom_right").build((3, 14, 18)).stamp(images(), keys(4)).numpy()
    assert (one[..., 11:, 15:] == RIGHT).all()
    assert (one[..., :11, :] == images()[..., :11, :].numpy()).all() and (one[..., :15] == images()[..., :15].numpy()).all()


def test_a_mirrored_image_with_four_corners_is_the_mirror_of_the_stamped_image() -> None:
    trigger = CornerTrigger().build((3, 14, 18))
    assert torch.equal(trigger.stamp(images().flip(-1), keys(4)), trigger.stamp(images(), keys(4)).flip(-1))


@pytest.mark.parametrize("amplitude", ["16/255", 64 / 255])
def test_an_amplitude_adds_white_and_subtracts_black_and_clips(amplitude: float | str) -> None:
    trigger = CornerTrigger("bottom_right", amplitude).build((3, 14, 18))
    before, levels = images(40).numpy().astype(int), 16 if amplitude == "16/255" else 64
    after = trigger.stamp(images(40), keys(40)).numpy()
    shift = np.where(RIGHT == 255, levels, -levels)
    assert (after[..., 11:, 15:] == np.clip(before[..., 11:, 15:] + shift, 0, 255)).all()


@pytest.mark.parametrize("placement", ["random", "bottom_right", "four_corners"])
@pytest.mark.parametrize("margin", [0, 2])
def test_only_the_patch_changes(placement: str, margin: int) -> None:
    trigger = PatchTrigger(4, placement, margin=margin).build((3, 14, 18))
    before, after = images(9), trigger.stamp(images(9), keys(9) * 31)
    changed = (before != after).any(1)
    if placement == "four_corners":
        inside = torch.zeros(14, 18, dtype=torch.bool)
        for rows in (slice(0, 4), slice(10, 14)):
            for columns in (slice(0, 4), slice(14, 18)):
                inside[rows, columns] = True
        assert not changed[:, ~inside].any() and torch.equal(trigger.mask(14, 18), inside)
        return
    for image, (top, left) in enumerate(trigger.places(keys(9) * 31, 14, 18).tolist()):
        assert torch.equal(after[image, :, top : top + 4, left : left + 4], trigger.pattern)
        changed[image, top : top + 4, left : left + 4] = False
        if placement == "bottom_right":
            assert (top, left) == (14 - 4 - margin, 18 - 4 - margin)
    assert not changed.any()


def test_random_places_depend_on_seed_and_key_alone_and_reach_everywhere() -> None:
    trigger = PatchTrigger(5, "random", seed=3).build((1, 9, 11))
    places = trigger.places(keys(3000), 9, 11)
    assert torch.equal(places[[7, 2999]], trigger.places(torch.tensor([7, 2999]), 9, 11))
    assert not torch.equal(places, PatchTrigger(5, "random", seed=4).build((1, 9, 11)).places(keys(3000), 9, 11))
    found, counts = np.unique(places.numpy(), axis=0, return_counts=True)
    assert found.tolist() == [[top, left] for top in range(5) for left in range(7)]
    # 3000 / 35 places = 86 each, standard deviation 9.
    assert counts.min() > 45 and counts.max() < 130


def test_bytes_and_floats_agree() -> None:
    for config in (CornerTrigger(), CornerTrigger(amplitude=0.25), PatchTrigger(5), PatchTrigger(5, "bottom_right", 2)):
        trigger = config.build((3, 14, 18))
        as_float = trigger.stamp(images().float() / 255, keys(4))
        assert torch.equal((as_float * 255).round().to(torch.uint8), trigger.stamp(images(), keys(4)))
        assert as_float.dtype == torch.float32 and as_float.min() >= 0 and as_float.max() <= 1


def test_a_picture_is_read_and_resized(tmp_path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "t.png")
    same = PatchTrigger(8, image=str(tmp_path / "t.png")).build((3, 32, 32)).pattern
    assert torch.equal(same, torch.from_numpy(pixels).permute(2, 0, 1))
    grey = PatchTrigger(4, image=str(tmp_path / "t.png")).build((1, 32, 32)).pattern
    assert grey.shape == (1, 4, 4) and (grey[0, :, 0] == 76).all() and (grey[0, :, 3] == 0).all()


def test_patterns_depend_on_the_seed() -> None:
    one, two, other = (PatchTrigger(6, seed=seed).build((3, 32, 32)).pattern for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert set(one.unique().tolist()) == {0, 255}


@pytest.mark.parametrize(
    "config",
    [
        PatchTrigger(15),
        PatchTrigger(0),
        PatchTrigger(12, "bottom_right", margin=3),
        PatchTrigger(3, margin=-1),
        PatchTrigger(8, "four_corners"),
        CornerTrigger(amplitude=0),
        CornerTrigger(amplitude="300/255"),
        PatchTrigger(4, image="missing.png"),
    ],
)
def test_what_does_not_fit_is_refused(config: PatchTrigger | CornerTrigger) -> None:
    with pytest.raises(InputError, match=r"--attack\.trigger\.(size|amplitude|image)"):
        config.build((3, 14, 18))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            {"class_path": "poison_and_defend.attacks.threat.trigger.CornerTrigger", "init_args": {"amplitude": "32/255"}},
            CornerTrigger("all", "32/255"),
        ),
        (
            {"class_path": "PatchTrigger", "init_args": {"size": 5, "placement": "bottom_right"}},
            PatchTrigger(5, "bottom_right"),
        ),
        (None, CornerTrigger()),
    ],
)
def test_a_configuration_names_the_class(written: dict | None, expected: PatchTrigger | CornerTrigger) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Attack, "attack")
    attack = {"class_path": "poison_and_defend.attacks.LabelConsistent", "init_args": {"trigger": written}}
    made = parser.instantiate_classes(parser.parse_object({"attack": attack})).attack
    assert made.trigger == expected and made.arguments()["trigger"] == expected.settings()


def test_a_picture_of_another_format_than_those_named_is_refused(tmp_path) -> None:
    # Pillow reads dozens of formats, and each decoder is code that a foreign file reaches.
    Image.new("RGB", (5, 5), (255, 0, 0)).save(tmp_path / "trigger.png", format="TIFF")
    with pytest.raises(InputError, match=r"cannot read the trigger .*--attack.trigger.image"):
        PatchTrigger(5, image=str(tmp_path / "trigger.png")).build((3, 14, 18))


def test_places_are_mixed_by_splitmix64() -> None:
    # The first outputs for the state 1234567, as published with the generator and used to check other implementations.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        states = np.uint64(1234567) + golden * np.arange(5, dtype=np.uint64)
    assert _mix(states).tolist() == published


@pytest.mark.parametrize("seed", [0, 11])
def test_rows_come_from_the_upper_and_columns_from_the_lower_half_of_the_bits(seed: int) -> None:
    trigger = PatchTrigger(4, "random", seed=seed).build((3, 14, 18))
    own = int(_mix(np.array([seed], np.uint64))[0])
    for key, (top, left) in zip((0, 7, 2**40), trigger.places(torch.tensor([0, 7, 2**40]), 14, 18).tolist(), strict=True):
        bits = int(_mix(np.array([(key + own) % 2**64], np.uint64))[0])
        assert (top, left) == ((bits >> 32) % 11, (bits & 0xFFFFFFFF) % 15)


PATTERN = torch.zeros(1, 3, 3, dtype=torch.uint8)


@pytest.mark.parametrize("name", ["margin", "seed"])
@pytest.mark.parametrize("wrong", [-1, 2**63, True, 1.0])
def test_numbers_that_do_not_fit_into_63_bits_are_refused(name: str, wrong: object) -> None:
    with pytest.raises(InputError, match=f"the trigger's {name} is "):
        Trigger(PATTERN, "random", **{name: wrong})
    assert getattr(Trigger(PATTERN, "random", **{name: 2**63 - 1}), name) == 2**63 - 1


@pytest.mark.parametrize(("place", "name"), [((-1, 0), "top"), ((0, 2**63), "left")])
def test_a_place_that_is_none_is_refused(place: tuple[int, int], name: str) -> None:
    with pytest.raises(InputError, match=f"the trigger's {name} is "):
        Trigger(PATTERN, "fixed", place=place)


@pytest.mark.parametrize("amplitude", [0.0, -0.5, 1.001, float("nan")])
def test_an_amplitude_out_of_range_is_refused(amplitude: float) -> None:
    with pytest.raises(InputError, match="the trigger's amplitude is "):
        Trigger(PATTERN, "random", amplitude=amplitude)


@pytest.mark.parametrize("pattern", [PATTERN.float(), PATTERN[0], PATTERN[:, :2], PATTERN[:0], PATTERN[:, :0, :0]])
def test_a_pattern_that_is_no_square_of_bytes_is_refused(pattern: torch.Tensor) -> None:
    with pytest.raises(InputError, match="the trigger's pattern is "):
        Trigger(pattern, "random")


def test_what_stands_in_the_way_of_a_picture_is_said() -> None:
    with pytest.raises(InputError, match=r"missing\.png.*No such file or directory"):
        PatchTrigger(4, image="missing.png").build((3, 32, 32))
