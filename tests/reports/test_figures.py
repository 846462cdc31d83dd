import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.trigger import Trigger
from poison_and_defend.reports.arm_names import arm_label
from poison_and_defend.reports.figures import amplified, comparison, contact_sheet, labelled_sheet, panel, tile, to_png
from poison_and_defend.reports.summary import summarize

generator = torch.Generator().manual_seed(0)


def random_images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def opened(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    image.load()
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("scale", "gap"), [(1, 0), (1, 2), (3, 1)])
def test_every_pixel_of_a_tile_stands_where_it_should(channels: int, scale: int, gap: int) -> None:
    rows = [random_images(3, channels, 4, 5) for _ in range(2)]
    sheet = np.asarray(tile(rows, scale, gap))
    expected = np.full((2 * (4 + gap), 3 * (5 + gap), 3), 255, np.uint8)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            top, left = row * (4 + gap), column * (5 + gap)
            expected[top : top + 4, left : left + 5] = image.permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(sheet, expected.repeat(scale, 0).repeat(scale, 1))


def test_differences_are_ten_times_themselves_around_mid_grey() -> None:
    bases = torch.tensor([100, 100, 100, 100, 100, 0, 255], dtype=torch.uint8)
    images = torch.tensor([100, 101, 99, 105, 95, 255, 0], dtype=torch.uint8)
    assert amplified(images, bases).tolist() == pytest.approx([127.5, 137.5, 117.5, 177.5, 77.5, 255, 0], abs=0.5)


def test_contact_sheet_shows_bases_poisons_differences_and_what_is_tested_column_by_column() -> None:
    bases = random_images(14, 3, 4, 4).clamp(8, 247)
    images = (bases.int() + torch.randint(-8, 9, bases.shape, generator=generator)).to(torch.uint8)
    setup = Setup(0, 0, 0, 1, 2, np.arange(14))
    poisons = PoisonSet(setup, images, bases, bases[0], Budget("linf", 8 / 255))
    tested = random_images(5, 3, 4, 4)
    sheet = np.asarray(contact_sheet(poisons, tested, columns=12, scale=1))
    assert sheet.shape == (4 * 6, 12 * 6, 3)
    padded = torch.cat([tested, torch.full((7, 3, 4, 4), 255, dtype=torch.uint8)])
    for column in range(12):
        for row, expected in enumerate((bases, images, amplified(images, bases), padded)):
            cell = sheet[row * 6 : row * 6 + 4, column * 6 : column * 6 + 4]
            np.testing.assert_array_equal(cell, expected[column].permute(1, 2, 0).numpy())


def test_a_small_set_makes_a_narrow_sheet() -> None:
    bases = random_images(2, 1, 4, 4)
    poisons = PoisonSet(Setup(0, 0, 0, 1, 2, np.arange(2)), bases, bases, bases[0], Budget("linf", 8 / 255))
    assert contact_sheet(poisons).size == (2 * 6 * 2, 4 * 6 * 2)


def last_row(poisons: PoisonSet) -> np.ndarray:
    sheet = np.asarray(contact_sheet(poisons, columns=12, scale=1))
    return sheet[-6:-2, :4]


def test_without_tested_images_the_sheet_ends_with_the_target() -> None:
    bases, target = random_images(2, 3, 4, 4), random_images(3, 4, 4)
    setup, budget = Setup(0, 0, 5, 1, 2, np.arange(2)), Budget("linf", 8 / 255)
    plain = PoisonSet(setup, bases, bases, target, budget)
    np.testing.assert_array_equal(last_row(plain), target.permute(1, 2, 0).numpy())
    trigger = Trigger(torch.full((3, 2, 2), 255, dtype=torch.uint8), "bottom_right")
    stamped = target.clone()
    stamped[:, 2:, 2:] = 255
    backdoor = PoisonSet(setup, bases, bases, target, budget, trigger=trigger, goal="source")
    np.testing.assert_array_equal(last_row(backdoor), stamped.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("goal", "label", "title"),
    [
        ("targets", "target", "class 1 to be read as 2"),
        ("source", "triggered source class", "class 1 to be read as 2"),
        ("others", "triggered other classes", "other classes to be read as 2"),
    ],
)
def test_a_labelled_sheet_says_what_its_rows_are(goal: str, label: str, title: str) -> None:
    bases = random_images(3, 1, 8, 8)
    trigger = None if goal == "targets" else Trigger(torch.full((1, 2, 2), 255, dtype=torch.uint8), "bottom_right")
    setup = Setup(4, 0, 5, 1, 2, np.arange(3))
    poisons = PoisonSet(setup, bases, bases, bases[0], Budget("linf", 8 / 255), trigger=trigger, goal=goal)
    tested = random_images(9, 1, 8, 8)
    (axes,) = labelled_sheet(poisons, tested).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["base", "poison", "10 x difference", label]
    assert axes.get_title(loc="left") == f"setup 4: {title}"
    np.testing.assert_array_equal(axes.images[0].get_array(), np.asarray(contact_sheet(poisons, tested, scale=1)))


def test_panel_labels_its_rows_and_shows_the_tiles() -> None:
    stages = [("base", random_images(3, 1, 8, 8)), ("noised", random_images(3, 1, 8, 8))]
    figure = panel(stages, "setup 0")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "noised"]
    assert axes.get_title(loc="left") == "setup 0"
    np.testing.assert_array_equal(axes.images[0].get_array(), np.asarray(tile([images for _, images in stages], 1)))
    assert opened(to_png(figure)).std() > 10


def test_comparison_draws_the_numbers_of_the_summary(results) -> None:
    rows = summarize(results)
    figure = comparison(rows, "digits, 4 setups")
    success, accuracy = figure.axes
    assert [bar.get_width() for bar in success.containers[1]] == pytest.approx([100 * row.success_rate for row in rows])
    assert [bar.get_width() for bar in accuracy.containers[0]] == pytest.approx([100 * row.clean_accuracy for row in rows])
    assert [re.findall(r"\d+", text.get_text()) for text in success.texts] == [
        [str(count), "4", str(25 * count)] for count in (4, 3, 2, 1, 0)
    ]
    assert [label.get_text() for label in success.get_yticklabels()] == [row.label for row in rows]
    # Ends of the error bars.
    ends = [segment[:, 0] for segment in success.containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[100 * row.ci_low, 100 * row.ci_high] for row in rows], atol=1e-9)


@pytest.mark.parametrize("count", [1, 5])
def test_comparison_renders_to_png_that_is_not_blank(results, count: int) -> None:
    pixels = opened(to_png(comparison(summarize(results)[:count], "digits")))
    assert pixels.shape[0] > 100
    assert pixels.shape[1] > 500
    red, blue = (np.abs(pixels.astype(int) - colour).sum(-1).min() for colour in ((0xB2, 0x43, 0x3A), (0x3A, 0x6E, 0xA5)))
    assert red < 10
    assert blue < 10


def test_equal_figures_give_equal_bytes(results) -> None:
    one, two = (to_png(comparison(summarize(results), "digits")) for _ in range(2))
    assert one == two


def test_bars_of_several_victims_name_them_and_count_images(make_backdoor) -> None:
    rows = summarize([make_backdoor(s, victim=v, successes=6 + s) for s in range(2) for v in ("vgg11", "convnet")])
    success, _ = comparison(rows, "digits").axes
    assert [text.get_text() for text in success.get_yticklabels()] == ["vgg11, undefended", "convnet, undefended"]
    assert [text.get_text() for text in success.texts] == ["65%\n13 of 20 images, 2 setups"] * 2


def test_labels_are_words_and_unknown_names_stay() -> None:
    assert [arm_label(name) for name in ("no_attack", "none", "jpeg", "diffusion", "epic")] == [
        "no attack",
        "undefended",
        "JPEG",
        "noise + denoise",
        "epic",
    ]
