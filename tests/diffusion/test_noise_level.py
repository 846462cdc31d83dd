import math

import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion import noise_level
from poison_and_defend.diffusion.denoiser import Denoiser
from poison_and_defend.diffusion.noise_level import LARGEST, note_doubtful, parse_sigma
from poison_and_defend.transforms.sanitizer import DiffusionSanitizer
from tests.countermeasures import rewriter


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch) -> None:
    monkeypatch.setattr(noise_level, "_said", set())
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def trained(unet, make_scheduler) -> Denoiser:
    """Trained on noise up to .3."""
    return Denoiser(unet, make_scheduler(), trained=0.3)


def test_sigma_is_a_number_or_a_fraction() -> None:
    assert [parse_sigma(sigma) for sigma in (0.25, "0.25", 1, "25/255", "0")] == [0.25, 0.25, 1.0, 25 / 255, 0.0]


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf, "much", "25/", "1/0", "-1/255", ""])
def test_what_is_no_noise_level_is_refused(sigma: float | str) -> None:
    with pytest.raises(InputError, match=r"^sigma is .*25/255 \(--here\)$"):
        parse_sigma(sigma, "--here")


@pytest.mark.parametrize("name", ["diffusion", "noise_only"])
def test_noise_that_leaves_nothing_is_refused_with_what_was_meant(name: str, trained) -> None:
    model = trained if name == "diffusion" else None
    with pytest.raises(InputError, match=r"^sigma is 25: .*at most 10, and 25 of 255 levels is written 25/255 \(--sigma\)$"):
        rewriter(name, sigma=25, denoiser=model)
    assert rewriter(name, sigma=LARGEST, denoiser=model).sigma == LARGEST
    assert rewriter(name, sigma="25/255", denoiser=model).sigma == 25 / 255


def test_a_fraction_is_the_same_noise_to_every_user(trained) -> None:
    sanitizer = DiffusionSanitizer(trained, "25/255")
    assert sanitizer.sigma == 25 / 255
    assert sanitizer.settings() == DiffusionSanitizer(trained, 25 / 255).settings()


@pytest.mark.parametrize(
    ("sigma", "limit", "note"),
    [
        (0.3, 0.3, ""),
        (1.0, None, ""),
        (0.5, 0.3, "note: sigma is 0.5, and this denoiser was trained on noise up to 0.3 only (--sigma)\n"),
        (2.5, 0.3, "note: sigma is 2.5, and this denoiser was trained on noise up to 0.3 only (--sigma)\n"),
        (2.5, None, "note: sigma is 2.5, more than the whole range of pixel values; 2.5 of 255 levels is 2.5/255 (--sigma)\n"),
    ],
)
def test_doubtful_noise_is_noted_once_on_one_line(capsys, sigma: float, limit: float | None, note: str) -> None:
    for _ in range(3):
        note_doubtful(sigma, limit)
    assert capsys.readouterr().err == note


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_other_ranks_say_nothing(capsys, monkeypatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    note_doubtful(2.5, None)
    assert capsys.readouterr().err == ""


def test_a_defence_notes_what_its_denoiser_never_saw(capsys, trained) -> None:
    for quiet in (
        rewriter("denoise_only", denoiser=trained),
        rewriter("noise_only", sigma=0.5),
        rewriter("diffusion", sigma=0.3, denoiser=trained),
    ):
        quiet.note()
    assert capsys.readouterr().err == ""
    rewriter("diffusion", sigma=0.5, denoiser=trained).note()
    assert "trained on noise up to 0.3 only" in capsys.readouterr().err
