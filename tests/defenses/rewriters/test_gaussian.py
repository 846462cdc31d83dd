import json
from pathlib import Path

import numpy as np
import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import DenoiseOnly, Diffusion, Jpeg, NoiseOnly, Rewriter
from poison_and_defend.defenses.rewriters.base import quantize
from poison_and_defend.defenses.rewriters.named import REWRITERS, find_rewriter
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.diffusion.row_noise import row_noise
from poison_and_defend.diffusion.tiles import TileLayout
from tests.countermeasures import rewriter

ROWS = torch.tensor([5, 0, 99, 3, 7, 2])
NEED_DENOISER = {"denoise_only", "diffusion"}


def build(name: str, denoiser: Denoiser | None = None, **rest) -> Rewriter:
    return rewriter(name, denoiser=denoiser if name in NEED_DENOISER else None, **rest)


def levels(floats: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(floats, 0, 1) * 255)


def added(images: torch.Tensor, sigma: float, seed: int = 0, draw: int = 0) -> torch.Tensor:
    return images.float() / 255 + sigma * row_noise(ROWS, tuple(images.shape[1:]), seed=seed, draw=draw)


def test_noise_only_is_noise_clipped_and_rounded(images) -> None:
    found = build("noise_only", sigma=0.3, seed=4, draw=2)(images, ROWS)
    expected = levels(added(images, 0.3, 4, 2).numpy())
    np.testing.assert_array_equal(found.numpy(), expected)
    assert {0, 255} <= set(expected.flatten().astype(int).tolist())


def test_noise_has_the_stated_standard_deviation() -> None:
    grey = torch.full((50, 1, 16, 16), 128, dtype=torch.uint8)
    defense = build("noise_only", sigma=0.1)
    assert (defense.add_noise(grey, torch.arange(50)) - 128 / 255).std().item() == pytest.approx(0.1, rel=0.03)
    assert (defense(grey, torch.arange(50)).float() / 255).std().item() == pytest.approx(0.1, rel=0.03)


def test_denoise_only_is_the_denoiser_at_sigma_0(images, denoiser) -> None:
    found = build("denoise_only", denoiser, sigma=0.25)(images, ROWS)
    expected = denoiser(images.float() / 255, 0.0)
    np.testing.assert_array_equal(found.numpy(), levels(expected.numpy()))
    assert not torch.equal(found, images)


def test_diffusion_is_the_denoiser_on_unclipped_noise(images, denoiser) -> None:
    found = build("diffusion", denoiser, sigma=0.25, seed=1)(images, ROWS)
    expected = denoiser(added(images, 0.25, 1), 0.25)
    np.testing.assert_array_equal(found.numpy(), levels(expected.numpy()))
    assert not torch.equal(found, quantize(denoiser(added(images, 0.25, 1).clamp(0, 1), 0.25)))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_jpeg_of_the_given_quality(channels: int) -> None:
    images = torch.arange(channels * 256).remainder(256).to(torch.uint8).view(1, channels, 16, 16)
    assert torch.equal(build("jpeg", jpeg_quality=20)(images, ROWS[:1]), Jpeg(20)(images, ROWS[:1]))


def test_the_limit_of_little_noise_is_denoise_only(images, denoiser) -> None:
    little, none = (build(name, denoiser, sigma=1e-7)(images, ROWS) for name in ("diffusion", "denoise_only"))
    assert (little.int() - none.int()).abs().max() <= 1


@pytest.mark.parametrize("name", REWRITERS)
def test_shape_and_type_are_kept_and_the_images_left_alone(name: str, images, denoiser) -> None:
    before = images.clone()
    found = build(name, denoiser)(images, ROWS)
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    assert not found.requires_grad
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", REWRITERS)
@pytest.mark.parametrize("order", [[3, 1, 5, 0, 2, 4], [0, 0, 0, 0, 0, 0], [5, 4, 3, 2, 1, 0]])
def test_a_rows_bytes_do_not_depend_on_its_neighbours(name: str, order: list[int], images, denoiser) -> None:
    defense = build(name, denoiser)
    assert torch.equal(defense(images[order], ROWS[order]), defense(images, ROWS)[order])


def test_the_row_number_keys_the_noise_and_nothing_else(images, denoiser) -> None:
    for name in REWRITERS:
        defense = build(name, denoiser)
        same = torch.equal(defense(images, ROWS), defense(images, ROWS + 1))
        assert same == (name not in ("noise_only", "diffusion"))


CHANGES = [{"sigma": 0.3}, {"seed": 1}, {"draw": 1}, {"jpeg_quality": 40}, {"steps": 3}, {"other": True}]


# From timestep 0 there is but one step to take, which the settings of denoise_only need not know.
@pytest.mark.parametrize(
    ("name", "change"), [(n, c) for n in REWRITERS for c in CHANGES if n != "denoise_only" or "steps" not in c]
)
def test_settings_differ_when_and_only_when_outputs_do(name: str, change: dict, images, denoiser, folders: list[Path]) -> None:
    other = load_denoiser(str(folders["other" in change]), steps=change.get("steps", 1))
    rest = {key: value for key, value in change.items() if key not in ("steps", "other")}
    one, two = build(name, denoiser), build(name, other, **rest)
    assert (one.settings() != two.settings()) == (not torch.equal(one(images, ROWS), two(images, ROWS)))


def test_settings_tell_defences_apart_and_are_json(denoiser) -> None:
    told = [json.dumps(build(name, denoiser).settings()) for name in REWRITERS]
    assert len(set(told)) == len(REWRITERS) == 4


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"'magic'.*diffusion, noise_only, denoise_only, jpeg.*--defense"):
        find_rewriter("magic")


@pytest.mark.parametrize("name", ["noise_only", "diffusion"])
@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_sigma_that_is_no_noise_level_is_refused(name: str, sigma: float, denoiser) -> None:
    with pytest.raises(InputError, match=rf"sigma is {sigma:g}.*--sigma"):
        build(name, denoiser, sigma=sigma)


def test_sigma_beyond_the_schedule_is_refused_before_any_image_is_seen(unet, make_scheduler) -> None:
    short = Denoiser(unet, make_scheduler(beta_end=0.001))
    with pytest.raises(InputError, match=r"sigma is 5: this denoiser's schedule covers 0 to 0\.\d+ .*--sigma"):
        build("diffusion", short, sigma=5)
    assert build("noise_only", sigma=5).sigma == 5


def test_denoise_only_takes_any_sigma(denoiser, images) -> None:
    build("denoise_only", denoiser, sigma=100)(images, ROWS)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ({"seed": -1}, r"seed is -1.*--seed"),
        ({"draw": -1}, r"draw -1.*--draw"),
        *(pytest.param(rest, "--") for rest in ({"seed": 2**64}, {"draw": 2**32})),
    ],
)
def test_values_out_of_range_are_refused(rest: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("noise_only", **rest)


def test_quantize_rounds_every_level_to_itself_and_clips() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(quantize(every.float() / 255), every)
    assert quantize(torch.tensor([-3.0, 1.7, 0.5 / 255 + 1e-4])).tolist() == [0, 255, 1]


@pytest.fixture
def large() -> torch.Tensor:
    return torch.randint(0, 256, (6, 1, 40, 23), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_larger_images_are_denoised_in_tiles_under_one_noise(large, denoiser) -> None:
    defense = Diffusion(0.2, denoiser, seed=3, overlap=2)
    layout = TileLayout(40, 23, denoiser.size, 2)
    noisy = defense.add_noise(layout.pad(large), ROWS)
    expected = quantize(layout.blend(denoiser(layout.cut(noisy), 0.2), 6))
    assert torch.equal(defense(large, ROWS), expected)


def test_or_scaled_to_the_models_size_and_back(large, denoiser) -> None:
    defense = Diffusion(0.05, denoiser, seed=3, large="resize")
    found = defense(large, ROWS)
    assert found.shape == large.shape
    small = torch.nn.functional.interpolate(large.float(), size=denoiser.size, mode="bilinear", antialias=True)
    clean = denoiser(defense.add_noise(small.round().to(torch.uint8), ROWS), 0.05)
    back = torch.nn.functional.interpolate(clean, size=(40, 23), mode="bilinear", antialias=True)
    assert (found.float() - back.clamp(0, 1) * 255).abs().max() <= 0.51


@pytest.mark.parametrize("size", [(20, 8), (8, 20), (5, 5), (3, 30)])
def test_images_that_share_a_side_with_the_model_or_are_smaller_are_scaled_too(size: tuple[int, int], denoiser) -> None:
    images = torch.randint(0, 256, (6, 1, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    defense = Diffusion(0.05, denoiser, seed=3, large="resize")
    scale = {"mode": "bilinear", "antialias": True, "align_corners": False}
    small = torch.nn.functional.interpolate(images.float(), size=(8, 8), **scale).round().to(torch.uint8)
    assert torch.equal(defense.scaled(images), small)
    back = torch.nn.functional.interpolate(denoiser(defense.add_noise(small, ROWS), 0.05), size=size, **scale)
    assert torch.equal(defense(images, ROWS), quantize(back))


def test_settings_say_how_images_of_other_sizes_are_handled_and_nothing_for_the_models_own(denoiser) -> None:
    own, other = (1, *denoiser.size), (1, 40, 23)
    for large, extra in (("tiles", {"large": "tiles", "overlap": 2}), ("resize", {"large": "resize"})):
        defense = Diffusion(0.2, denoiser, seed=3, large=large)
        assert defense.settings_for(own) == defense.settings()
        assert defense.settings_for(other) == defense.settings() | extra


def test_images_of_other_channels_are_refused(denoiser) -> None:
    with pytest.raises(InputError, match=r"images of 1 channels, the data's have 3 \(--denoiser\)"):
        Diffusion(0.2, denoiser, seed=0).check((3, 40, 40), 10)


def test_what_is_left_out_is_taken_from_the_run_and_what_is_given_stays(denoiser) -> None:
    common = {"sigma": 0.5, "denoiser": denoiser, "steps": 1, "seed": 7, "draw": 2, "quality": 30}
    assert Diffusion().completed(**common).settings() == Diffusion(0.5, denoiser, seed=7, draw=2).settings()
    assert Diffusion(0.1, draw=0).completed(**common).settings() == Diffusion(0.1, denoiser, seed=7, draw=0).settings()
    assert Jpeg().completed(**common).quality == 30 and Jpeg(80).completed(**common).quality == 80


def test_noise_without_a_seed_is_an_error_and_no_noise_needs_none(images) -> None:
    with pytest.raises(RuntimeError, match="no seed"):
        build("noise_only", sigma=0.1, seed=None)(images, ROWS)
    assert torch.equal(build("noise_only", sigma=0.0, seed=None)(images, ROWS), images)


def test_noise_alone_needs_a_secret_and_only_while_it_has_no_seed(denoiser) -> None:
    for one, needed in ((NoiseOnly(0.1), True), (Diffusion(0.1, denoiser), True), (DenoiseOnly(denoiser), False)):
        assert one.needs_secret is needed
        assert one.with_seed(0).needs_secret is False
    assert NoiseOnly(0.1, seed=0).needs_secret is False
    assert NoiseOnly(0.1).with_seed(9).seed == 9 and DenoiseOnly(denoiser).with_seed(9).seed is None


def test_a_model_that_is_there_already_takes_the_place_of_the_one_that_was_named(images, denoiser, folders: list[Path]) -> None:
    named, other = Diffusion(0.1, str(folders[0]), seed=2), load_denoiser(str(folders[1]))
    before = named(images, ROWS)  # reads its own model
    assert torch.equal(named.using(other)(images, ROWS), Diffusion(0.1, other, seed=2)(images, ROWS))
    assert named.using(other).denoiser is other
    assert torch.equal(named(images, ROWS), before) and not torch.equal(named.using(other)(images, ROWS), before)


def test_images_of_the_models_own_size_are_handed_on_as_they_are(images, denoiser) -> None:
    for defense in (Diffusion(0.1, denoiser, seed=2, large="resize"), Diffusion(0.1, denoiser, seed=2), NoiseOnly(0.1, seed=2)):
        assert defense.scaled(images) is images
        floats = images.float()
        assert defense.restored(floats, images) is floats
