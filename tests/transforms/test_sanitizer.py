import pickle
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from poison_and_defend import DiffusionSanitizer
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Diffusion, NoiseOnly, Rewriter
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.diffusion.tiles import TileLayout
from poison_and_defend.sanitizing.tiled import Group
from tests.countermeasures import rewriter


@pytest.fixture(scope="module")
def sanitizer(denoiser) -> DiffusionSanitizer:
    return DiffusionSanitizer(denoiser, overlap=2, batch_size=4, seed=3, draw=1)


@pytest.fixture(scope="module")
def colour(make_unet, make_scheduler) -> DiffusionSanitizer:
    return DiffusionSanitizer(Denoiser(make_unet(channels=3), make_scheduler()), overlap=2, batch_size=4)


def large(channels: int = 1, n: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, 19, 13), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_images_of_the_models_size_are_the_defences_bytes(sanitizer, denoiser, images) -> None:
    rows = torch.tensor([5, 0, 99, 3, 7, 2**32 - 1])
    expected = rewriter("diffusion", denoiser=denoiser, seed=3, draw=1)(images, rows)
    assert torch.equal(sanitizer(images, rows=rows), expected)


def test_tiles_share_the_noise_of_their_canvas(sanitizer, denoiser) -> None:
    images, rows = large(), [4, 1, 7]
    layout = TileLayout(19, 13, (8, 8), 2)
    noisy = sanitizer.tiled.defense.add_noise(layout.pad(images), torch.tensor(rows))
    expected = layout.blend(denoiser(layout.cut(noisy), 0.25), 3).clamp(0, 1) * 255
    assert (sanitizer(images, rows=rows).float() - expected).abs().max() <= 0.51


@pytest.mark.parametrize("channels", [1, 3])
def test_a_rows_bytes_do_not_depend_on_its_neighbours(sanitizer, colour, channels: int) -> None:
    model, images = (sanitizer if channels == 1 else colour), large(channels, 5)
    together = model(images, rows=range(5))
    assert torch.equal(model(images, rows=range(5)), together)
    for row in range(5):
        assert torch.equal(model(images[row], rows=row), together[row])
    assert torch.equal(model(images.flip(0), rows=[4, 3, 2, 1, 0]), together.flip(0))


def test_bytes_do_not_depend_on_how_pixels_lie_in_memory(colour) -> None:
    for images in (large(3), large(3)[:, :, :8, :8].contiguous()):
        last = images.to(memory_format=torch.channels_last)
        assert torch.equal(colour(last, rows=range(3)), colour(images, rows=range(3)))


@pytest.mark.parametrize("n", [1, 3])
def test_rows_go_through_the_model_in_batches_of_one_shape_and_order_of_memory(colour, n: int, monkeypatch) -> None:
    """No such batch rounds differently on every machine, so the shapes themselves are looked at."""
    seen = []

    def evaluate(noisy: torch.Tensor) -> torch.Tensor:
        seen.append((len(noisy), noisy.stride()))
        return noisy

    monkeypatch.setattr(colour.tiled.batches, "_evaluate", evaluate)
    for images in (large(3, n), large(3, n)[:, :, :8, :8]):
        colour(images.to(memory_format=torch.channels_last), rows=range(n))
    assert set(seen) == {(4, (192, 64, 8, 1))}
    seen.clear()
    colour(large(3, n)[:, :, :8, :8])
    assert [length for length, _ in seen] == [n]


def test_rows_seed_and_draw_key_the_noise(denoiser, images) -> None:
    same = images[:1].repeat(4, 1, 1, 1)
    found = DiffusionSanitizer(denoiser, overlap=2)(same, rows=range(4))
    assert len({image.numpy().tobytes() for image in found}) == 4
    for change in ({"seed": 1}, {"draw": 1}, {"sigma": 0.3}):
        assert not torch.equal(DiffusionSanitizer(denoiser, overlap=2, **change)(same, rows=range(4)), found)


def test_without_rows_noise_is_fresh_and_follows_torchs_seed(sanitizer, images) -> None:
    torch.manual_seed(7)
    one, two = sanitizer(images), sanitizer(images)
    torch.manual_seed(7)
    assert torch.equal(sanitizer(images), one)
    assert not torch.equal(one, two)
    state = torch.get_rng_state()
    sanitizer(images, rows=range(6))
    assert torch.equal(torch.get_rng_state(), state)


def test_fresh_noise_has_the_stated_standard_deviation(sanitizer) -> None:
    grey = torch.full((50, 1, 32, 32), 128, dtype=torch.uint8)
    torch.manual_seed(0)
    assert (sanitizer.tiled._noisy(TileLayout(32, 32, (8, 8), 2), Group(grey, None)) - 128 / 255).std().item() == pytest.approx(
        0.25, rel=0.02
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (1, 8, 8), (2, 1, 19, 13), (1, 3, 40)])
def test_floats_are_the_same_bytes_over_255(sanitizer, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    rows = range(2) if len(shape) == 4 else 0
    found = sanitizer((pixels.double() / 255).to(dtype), rows=rows)
    assert found.dtype == dtype
    assert torch.equal(found, (sanitizer(pixels, rows=rows).float() / 255).to(dtype))


def test_types_are_kept(sanitizer, colour) -> None:
    plain = large(3, 1)[0]
    image = tv_tensors.Image(plain)
    found = colour(image, rows=0)
    assert type(found) is tv_tensors.Image
    assert type(colour(plain, rows=0)) is torch.Tensor
    assert torch.equal(found, colour(plain, rows=0))
    video = tv_tensors.Video(large(3, 2))
    assert type(colour(video, rows=[0, 1])) is tv_tensors.Video
    pil = PIL.Image.fromarray(plain.permute(1, 2, 0).numpy())
    assert (colour(pil).mode, colour(pil).size) == ("RGB", (13, 19))
    np.testing.assert_array_equal(np.asarray(colour(pil, rows=0)), colour(plain, rows=0).permute(1, 2, 0).numpy())
    grey = PIL.Image.fromarray(plain[0].numpy())
    for model in (sanitizer, colour):
        assert (model(grey).mode, model(grey).size) == ("L", (13, 19))
        np.testing.assert_array_equal(np.asarray(model(grey, rows=0)), model(plain[:1], rows=0)[0].numpy())


def test_grey_through_a_colour_model_is_the_mean_of_its_channels(colour) -> None:
    grey = large(1, 1)
    three = colour(grey.repeat(1, 3, 1, 1), rows=[5]).float()
    assert (colour(grey, rows=[5])[0, 0].float() - three.mean(1)[0]).abs().max() <= 1


def test_the_input_is_left_as_it_was(sanitizer) -> None:
    images = large()
    sanitizer(images)
    assert torch.equal(images, large())
    assert sanitizer(images[:0]).shape == (0, 1, 19, 13)


def test_within_compose_labels_boxes_and_masks_pass_through(colour) -> None:
    image = tv_tensors.Image(large(3, 1)[0])
    boxes = tv_tensors.BoundingBoxes([[1, 2, 3, 4]], format="XYXY", canvas_size=(19, 13))
    mask = tv_tensors.Mask(torch.ones(19, 13, dtype=torch.uint8))
    label = torch.tensor(4)
    compose = v2.Compose([colour, v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)])
    found, kept = compose(image, {"boxes": boxes, "mask": mask, "label": label, "name": "x"})
    assert found.dtype == torch.float32
    assert not torch.equal(found, image.float() / 255)
    assert kept["label"] is label
    assert torch.equal(kept["boxes"], boxes)
    assert torch.equal(kept["mask"], mask)
    assert kept["name"] == "x"
    only = v2.Compose([v2.ToImage(), colour])(PIL.Image.new("RGB", (8, 8)))
    assert type(only) is tv_tensors.Image
    pair = colour(large(3), torch.tensor([0, 1, 2]))
    assert torch.equal(pair[1], torch.tensor([0, 1, 2]))
    assert not torch.equal(pair[0], large(3))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), "no image among ndarray"),
        (PIL.Image.new("RGBA", (8, 8)), "mode RGBA: convert"),
        (torch.zeros(8, 8), r"shape \(8, 8\)"),
        (torch.zeros(1, 8, 8, dtype=torch.int64), "int64: they must be uint8 or float"),
        (torch.full((1, 8, 8), 1.5), r"from 1.5 to 1.5.*\[0, 1\]"),
        (torch.full((1, 8, 8), -0.1), r"from -0.1"),
        (torch.full((1, 8, 8), float("nan")), r"from nan"),
        (PIL.Image.new("RGB", (8, 8)), "3 channels and the denoiser takes 1"),
        (torch.zeros(1, 2, 8, 8), "2 channels"),
    ],
)
def test_what_is_no_image_for_it_is_refused(sanitizer, image, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sanitizer(image)


@pytest.mark.parametrize("rows", [[0, 1], [0, 1, -1], [0, 1, 2**32], [0.0, 1.0, 2.0]])
def test_rows_that_do_not_fit_are_refused(sanitizer, rows: list) -> None:
    with pytest.raises(InputError, match=r"rows.*\(rows\)"):
        sanitizer(large(), rows=rows)


def test_rows_of_a_sample_are_refused(sanitizer) -> None:
    with pytest.raises(InputError, match="one batch"):
        sanitizer(large(), torch.arange(3), rows=range(3))


def test_settings_that_cannot_be_are_refused(denoiser) -> None:
    for change in ({"sigma": 100}, {"overlap": 8}, {"overlap": -1}, {"batch_size": 0}, {"steps": 3}, {"seed": -1}):
        with pytest.raises(InputError):
            DiffusionSanitizer(denoiser, **({"overlap": 2} | change))
    with pytest.raises(InputError, match=r"there is no denoiser ./nowhere."):
        DiffusionSanitizer("/nowhere")


def test_output_that_is_not_finite_is_refused(make_unet, make_scheduler, images) -> None:
    unet = make_unet()
    unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(InputError, match=r"not finite.*--denoiser"):
        DiffusionSanitizer(Denoiser(unet, make_scheduler()), overlap=2)(images)


def test_a_folder_is_loaded_and_the_transform_survives_pickling(folders, images) -> None:
    one = DiffusionSanitizer(str(folders[0]), steps=2, overlap=2, device="cpu")
    assert one.tiled.defense.denoiser.steps == 2
    two = pickle.loads(pickle.dumps(one))
    assert torch.equal(one(images, rows=range(6)), two(images, rows=range(6)))
    assert one.settings() == two.settings()
    assert one.settings() != DiffusionSanitizer(load_denoiser(str(folders[0])), overlap=2).settings()
    assert list(one.parameters()) == []
    assert "sigma=0.25" in repr(one)


def test_importing_the_package_imports_neither_torchvision_nor_diffusers() -> None:
    code = (
        "import sys, poison_and_defend; assert not {'torch', 'torchvision', 'diffusers'} & set(sys.modules);"
        "from poison_and_defend import SanitizedDataset; assert 'torchvision' in sys.modules;"
        "assert 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import poison_and_defend

    assert set(poison_and_defend.__all__) <= set(dir(poison_and_defend))
    with pytest.raises(AttributeError, match="magic"):
        poison_and_defend.magic


class Turned(Rewriter):
    """Images upside down, dimmed by their rows' numbers: each row by itself, whatever its size."""

    name = "turned"

    def __init__(self, dim: int = 1) -> None:
        self.dim = dim

    def __call__(self, images, keys, draws=None):
        return (images.flip(2).int() - self.dim * keys.view(-1, 1, 1, 1).int()).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_rewriter_without_a_denoiser_gets_images_as_they_are(channels: int) -> None:
    own, images = DiffusionSanitizer(Turned(), batch_size=2), large(channels, 5)
    expected = Turned()(images, torch.arange(5))
    assert torch.equal(own(images, rows=range(5)), expected) and own.size is None and own.channels is None
    for row in range(5):
        assert torch.equal(own(images[row], rows=row), expected[row])
    assert own.settings()["dim"] == 1 and own.settings() != DiffusionSanitizer(Turned(2)).settings()


def test_a_rewriters_randomness_is_keyed_fresh_and_secret() -> None:
    grey = torch.full((2, 1, 9, 5), 128, dtype=torch.uint8)
    noisy = DiffusionSanitizer(NoiseOnly(0.1))
    first, second = noisy(grey), noisy(grey)
    # No two images, and no two calls, get the same noise.
    assert not torch.equal(first[0], first[1]) and not torch.equal(first, second)
    assert torch.equal(noisy(grey, rows=[3, 4]), noisy(grey, rows=[3, 4]))
    assert not torch.equal(noisy(grey, rows=[3, 4]), DiffusionSanitizer(NoiseOnly(0.1))(grey, rows=[3, 4]))
    assert noisy.settings()["seed"] == "secret"
    known = DiffusionSanitizer(NoiseOnly(0.1, seed=7))
    assert torch.equal(known(grey, rows=[3, 4]), NoiseOnly(0.1, seed=7)(grey, torch.tensor([3, 4])))


def test_a_rewriter_with_a_denoiser_is_the_same_as_its_denoiser(sanitizer, denoiser) -> None:
    same = DiffusionSanitizer(Diffusion(0.25, denoiser, seed=3, draw=1, overlap=2), batch_size=4)
    assert torch.equal(same(large(), rows=[4, 1, 7]), sanitizer(large(), rows=[4, 1, 7]))
    assert same.settings() == sanitizer.settings() and same.size == sanitizer.size


def test_what_a_rewriter_says_itself_is_not_said_twice() -> None:
    for name in ("sigma", "steps", "overlap", "seed", "draw"):
        with pytest.raises(InputError, match=rf"{name} is 1, but it is for the rewriter turned to say \({name}\)"):
            DiffusionSanitizer(Turned(), **{name: 1})


def test_a_rewriter_that_gives_anything_but_bytes_of_the_same_shape_is_refused() -> None:
    class Floats(Turned):
        def __call__(self, images, keys, draws=None):
            return images.float()

    class Cut(Turned):
        def __call__(self, images, keys, draws=None):
            return images[:, :, 1:]

    for kind in (Floats, Cut):
        with pytest.raises(InputError, match=r"the rewriter turned gives .* for \(3, 1, 19, 13\)"):
            DiffusionSanitizer(kind())(large())
