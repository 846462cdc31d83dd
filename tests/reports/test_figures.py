import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from attacks.budget import Budget
from attacks.poison_set import PoisonSet
from attacks.setups import Setup
from reports.figures import amplified, comparison, contact_sheet, defense_label, panel, tile, to_png
from reports.records import summarize

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


def test_contact_sheet_shows_bases_poisons_and_differences_column_by_column() -> None:
    bases = random_images(14, 3, 4, 4).clamp(8, 247)
    images = (bases.int() + torch.randint(-8, 9, bases.shape, generator=generator)).to(torch.uint8)
    setup = Setup(0, 0, 0, 1, 2, np.arange(14))
    poisons = PoisonSet(setup, images, bases, bases[0], Budget("linf", 8 / 255))
    sheet = np.asarray(contact_sheet(poisons, columns=12, scale=1))
    assert sheet.shape == (3 * 6, 12 * 6, 3)
    for column in range(12):
        for row, expected in enumerate((bases, images, amplified(images, bases))):
            cell = sheet[row * 6 : row * 6 + 4, column * 6 : column * 6 + 4]
            np.testing.assert_array_equal(cell, expected[column].permute(1, 2, 0).numpy())


def test_a_small_set_makes_a_narrow_sheet() -> None:
    bases = random_images(2, 1, 4, 4)
    poisons = PoisonSet(Setup(0, 0, 0, 1, 2, np.arange(2)), bases, bases, bases[0], Budget("linf", 8 / 255))
    assert contact_sheet(poisons).size == (2 * 6 * 2, 3 * 6 * 2)


def test_panel_labels_its_rows_and_shows_the_tiles() -> None:
    stages = [("base", random_images(3, 1, 8, 8)), ("noised", random_images(3, 1, 8, 8))]
    figure = panel(stages, "setup 0")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "noised"]
    assert axes.get_title(loc="left") == "setup 0"
    np.testing.assert_array_equal(axes.images[0].get_array(), np.asarray(tile([images for _, images in stages], 1)))
    assert opened(to_png(figure)).std() > 10


def test_comparison_draws_the_numbers_of_the_summary(records) -> None:
    rows = summarize(records)
    figure = comparison(rows, "digits, 4 setups")
    success, accuracy = figure.axes
    assert [bar.get_width() for bar in success.containers[1]] == pytest.approx([100 * row["success_rate"] for row in rows])
    assert [bar.get_width() for bar in accuracy.containers[0]] == pytest.approx([100 * row["clean_accuracy"] for row in rows])
    assert [re.findall(r"\d+", text.get_text()) for text in success.texts] == [[str(count), "4"] for count in (4, 3, 2, 1, 0)]
    assert [label.get_text() for label in success.get_yticklabels()] == [defense_label(row["defense"]) for row in rows]
    # Ends of the error bars.
    ends = [segment[:, 0] for segment in success.containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[100 * row["ci_low"], 100 * row["ci_high"]] for row in rows], atol=1e-9)


@pytest.mark.parametrize("count", [1, 5])
def test_comparison_renders_to_png_that_is_not_blank(records, count: int) -> None:
    pixels = opened(to_png(comparison(summarize(records)[:count], "digits")))
    assert pixels.shape[0] > 100
    assert pixels.shape[1] > 500
    red, blue = (np.abs(pixels.astype(int) - colour).sum(-1).min() for colour in ((0xB2, 0x43, 0x3A), (0x3A, 0x6E, 0xA5)))
    assert red < 10
    assert blue < 10


def test_equal_figures_give_equal_bytes(records) -> None:
    one, two = (to_png(comparison(summarize(records), "digits")) for _ in range(2))
    assert one == two


def test_labels_are_words_and_unknown_names_stay() -> None:
    assert [defense_label(name) for name in ("none", "jpeg", "diffusion", "epic")] == [
        "undefended",
        "JPEG",
        "noise + denoise",
        "epic",
    ]
