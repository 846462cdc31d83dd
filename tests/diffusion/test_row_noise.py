import numpy as np
import pytest
import torch
from scipy import stats

from poison_and_defend.diffusion.row_noise import philox, row_noise

WORD = 2**32 - 1
# Random123's kat_vectors, philox4x32 10: counter, key, expected.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((WORD,) * 4, (WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def noise(rows: list[int] | range, shape: tuple[int, ...] = (1, 8, 8), seed: int = 0, draw: int = 0) -> torch.Tensor:
    return row_noise(torch.tensor(list(rows)), shape, seed=seed, draw=draw)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_answers(counter: tuple, key: tuple, expected: tuple) -> None:
    assert tuple(int(word) for word in philox(tuple(torch.tensor(c) for c in counter), key)) == expected


def test_philox_broadcasts_and_stays_in_32_bits() -> None:
    counters = torch.tensor([c for c, _, _ in KNOWN[:1]] + [(1, 2, 3, 4)]).T
    together = philox(tuple(counters), (7, WORD))
    alone = philox(tuple(counters[:, 1]), (7, WORD))
    assert [int(word[1]) for word in together] == [int(word) for word in alone]
    assert all(int(word.min()) >= 0 and int(word.max()) <= WORD for word in together)


def test_noise_is_box_muller_of_philox_pixel_by_pixel() -> None:
    seed, draw, row = 2**40 + 5, 3, 2**32 - 2
    found = noise([row], (3, 2, 3), seed, draw).flatten()
    for pixel in range(18):
        words = philox(tuple(torch.tensor(c) for c in (pixel // 4, row, draw, 0)), (seed & WORD, seed >> 32))
        pair = (pixel % 4) // 2 * 2
        radius, angle = ((int(words[pair + i]) + 0.5) / 2**32 for i in range(2))
        wave = np.sin if pixel % 2 else np.cos
        assert found[pixel].item() == pytest.approx(np.sqrt(-2 * np.log(radius)) * wave(2 * np.pi * angle), abs=1e-6)


def test_a_rows_noise_does_not_depend_on_the_other_rows_or_their_order() -> None:
    rows = [4, 70_000, 0, 4, 2**32 - 1]
    together = noise(rows)
    for position, row in enumerate(rows):
        assert torch.equal(together[position], noise([row])[0])
    assert torch.equal(noise(rows[::-1]), together.flip(0))
    assert torch.equal(together[0], together[3])


def test_the_global_generator_is_not_used() -> None:
    before = torch.random.get_rng_state()
    noise([1])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "other", [{"rows": [8]}, {"draw": 1}, {"draw": 2}, {"seed": 1}, {"seed": 2**32}, {"seed": 2**63}, {"draw": 2**31}]
)
def test_another_row_draw_or_seed_is_uncorrelated(other: dict) -> None:
    shape = (1, 64, 64)
    one, two = noise([7], shape).flatten(), noise(**{"rows": [7], "shape": shape} | other).flatten()
    correlation = np.corrcoef(one, two)[0, 1]
    assert abs(correlation) < 4 / np.sqrt(len(one))


def test_pixels_of_one_image_are_uncorrelated() -> None:
    values = noise(range(2000), (1, 4, 4)).flatten(1)
    correlation = np.corrcoef(values.T.numpy())
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(2000)


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_noise_is_standard_normal(seed: int) -> None:
    values = noise(range(300), (3, 8, 8), seed).flatten().numpy()
    assert stats.kstest(values, "norm").pvalue > 0.01
    assert stats.kstest(values**2, stats.chi2(1).cdf).pvalue > 0.01
    # Neighbours share a radius and an angle, but must be independent all the same: their sum of squares is exponential.
    pairs = values.reshape(-1, 2).astype(float)
    assert stats.kstest((pairs**2).sum(1) / 2, "expon").pvalue > 0.01


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 3), (3, 5, 7), (2, 2)])
def test_any_shape_is_filled_with_a_prefix_of_one_stream(shape: tuple[int, ...]) -> None:
    found = noise([3, 9], shape)
    assert found.shape == (2, *shape)
    assert found.dtype == torch.float32
    assert torch.equal(found.flatten(1), noise([3, 9], (1, 11, 11)).flatten(1)[:, : found[0].numel()])


def test_rows_may_have_draws_of_their_own() -> None:
    rows = torch.tensor([4, 4, 9])
    together = row_noise(rows, (1, 8, 8), seed=3, draw=torch.tensor([0, 7, 7]))
    apart = [noise([row], seed=3, draw=draw)[0] for row, draw in ((4, 0), (4, 7), (9, 7))]
    assert torch.equal(together, torch.stack(apart))
    assert not torch.equal(together[0], together[1])
