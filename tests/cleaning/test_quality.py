import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from poison_and_defend.cleaning.quality import Originals, QualityTask, run_quality
from poison_and_defend.cleaning.recommend_sigma import Labelled, RecommendTask, recommend_sigma, run_recommend
from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeInput, SanitizeTask
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.diffusion.training_range import write_training_range
from poison_and_defend.lightning_modules import ClassifierModule
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.launch import Launch
from tests.picture_folders import photo, write_photos

DIGITS = str(Path(__file__).parents[2] / "poison_and_defend" / "pretrained" / "digits")


def sanitized(root: Path, out: Path, denoiser: str, **options) -> Path:
    task = SanitizeTask(out=str(out), data=SanitizeInput(root=str(root)), denoiser=denoiser, **options)
    return sanitize_alone(task, Launch(accelerator="cpu", devices=1))


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """300 digits as an .npz."""
    split = DigitsDataModule().split("train")
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, images=split.images.numpy()[:300], labels=split.labels.numpy()[:300])
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A classifier that reads an empty image as 3 and anything else as 0, as Lightning saves one."""
    model = ClassifierModule(num_classes=10)
    with torch.no_grad():
        for parameter in model.net.head.parameters():
            parameter.zero_()
        model.net.head.bias[3] = 1.0
    path = tmp_path_factory.mktemp("classifier") / "model.ckpt"
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, path)
    return path


def test_numbers_pictures_and_the_images_that_changed_most(colour_denoiser_folder, tmp_path, capsys) -> None:
    root = write_photos(tmp_path / "in", 8)
    Image.new("RGB", (16, 16), (90, 90, 90)).save(root / "class0" / "0000.png")
    (root / "class1" / "0007.png").write_bytes(b"broken")
    out = sanitized(root, tmp_path / "out", colour_denoiser_folder, sigma=0.1, noise_seed=0)
    # As if this one had been changed most.
    folder = run_quality(QualityTask(str(out), Originals(str(root))))
    quality = json.loads((folder / "quality.json").read_text())
    assert folder == tmp_path / "out.quality" and quality["measured"] == 7
    assert [(row["class"], row["images"]) for row in quality["classes"]] == [("class0", 4), ("class1", 3), ("all", 7)]
    for row in quality["changed_most"]:
        one = np.asarray(Image.open(root / row["file"]), float)
        two = np.asarray(Image.open(out / row["file"]), float)
        assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / ((one - two) ** 2).mean()), abs=0.01)
    values = [row["psnr"] for row in quality["changed_most"]]
    assert values == sorted(values) and len(values) == 7
    page = (folder / "quality.html").read_text()
    assert "which was given for reproduction" in page
    assert page.count("data:image/png;base64,") == 2 and "class1/0007.png" in page and "http" not in page.split("</style>")[1]
    assert "7 images: PSNR" in capsys.readouterr().out


def test_arrays_are_compared_row_by_row_and_a_classifier_reads_both(digits, checkpoint, tmp_path) -> None:
    out = sanitized(digits, tmp_path / "out.npz", DIGITS, sigma=0.25)
    folder = run_quality(QualityTask(str(out), Originals(str(digits)), classifier=str(checkpoint), sample=150))
    quality = json.loads((folder / "quality.json").read_text())
    chosen = np.linspace(0, 299, 150).round().astype(int)
    labels = np.load(digits)["labels"][chosen]
    assert quality["accuracy"]["n"] == 150
    assert quality["accuracy"]["before"] == quality["accuracy"]["after"] == pytest.approx((labels == 3).mean())
    assert 10 < quality["classes"][-1]["psnr"] < 40
    assert [row["class"] for row in quality["classes"]] == [*map(str, range(10)), "all"]


def test_what_does_not_belong_together_is_refused(colour_denoiser_folder, checkpoint, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 4)
    out = sanitized(root, tmp_path / "out", colour_denoiser_folder)
    sanitized(root, tmp_path / "two", colour_denoiser_folder)
    photo(9).save(root / "class0" / "0002.png")
    with pytest.raises(InputError, match=r"0002.png is not the image that was sanitized \(--data.root\)"):
        run_quality(QualityTask(str(out), Originals(str(root))))
    with pytest.raises(InputError, match=r"not there or not complete \(--sanitized\)"):
        run_quality(QualityTask(str(tmp_path / "nowhere"), Originals(str(root))))
    with pytest.raises(InputError, match=r"lies in the sanitized set.*--out"):
        run_quality(QualityTask(str(out), Originals(str(root)), out=str(out / "quality")))
    with pytest.raises(InputError, match=r"reads images of 1 channels and 10 classes, these have 3 and 2 \(--classifier\)"):
        run_quality(QualityTask(str(tmp_path / "two"), Originals(str(root)), classifier=str(checkpoint)))
    (tmp_path / "x.ckpt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"x.ckpt is damaged or no checkpoint of a classifier: .*--classifier"):
        run_quality(QualityTask(str(out), Originals(str(root)), classifier=str(tmp_path / "x.ckpt")))


@pytest.mark.slow
def test_the_recommended_sigma_is_the_largest_that_a_trained_network_bears(tmp_path, capsys) -> None:
    split = DigitsDataModule().split("train")
    np.savez(tmp_path / "d.npz", images=split.images.numpy(), labels=split.labels.numpy())
    recipe = Recipe(epochs=15, batch_size=16, optimizer="adam", learning_rate=0.002)
    options = {
        "denoiser": DIGITS,
        "sigmas": [0.1, 0.5, 2.0, 6.0],
        "max_drop": 0.1,
        "recipe": recipe,
        "out": str(tmp_path / "r.json"),
    }
    result = run_recommend(RecommendTask(Labelled(str(tmp_path / "d.npz")), **options))
    accuracy = {row["sigma"]: row["accuracy"] for row in result["sigmas"]}
    assert result["accuracy"] > 0.9 and accuracy[0.1] > 0.9
    # The strongest noise leaves next to nothing of a digit.
    assert accuracy[6.0] < 0.6 and result["by_estimate"] in (0.5, 2.0) and result["recommended"] in (0.5, 2.0)
    for row in result["sigmas"]:
        assert row["low"] <= row["change"] <= row["high"]
        assert row["change"] == pytest.approx(row["accuracy"] - result["accuracy"], abs=1e-6)
    assert json.loads((tmp_path / "r.json").read_text())["recommended"] == result["recommended"]
    assert f"--sigma {result['recommended']:g}" in capsys.readouterr().out


def test_a_given_classifier_reads_the_sample(digits, checkpoint) -> None:
    result = recommend_sigma(RecommendTask(Labelled(str(digits)), DIGITS, [0.1, 0.3], sample=60, classifier=str(checkpoint)))
    # This one answers 3 whatever it sees, so that no noise costs it anything; but sixty images are no proof of two percent.
    assert result["tested"] == 60 and result["by_estimate"] == 0.3 and result["recommended"] is None
    assert [row["change"] for row in result["sigmas"]] == [0.0, 0.0]
    assert [(row["verdict"], row["images_needed"]) for row in result["sigmas"]] == [("unknown", 96)] * 2


def test_fractions_and_what_the_denoiser_was_not_trained_on(digits, checkpoint, tmp_path, capsys) -> None:
    own = Path(shutil.copytree(DIGITS, tmp_path / "own"))
    write_training_range(own, 0.2)
    options = {"sigmas": ["0.3", "25/255"], "sample": 60, "classifier": str(checkpoint), "max_drop": 0.1}
    result = run_recommend(RecommendTask(Labelled(str(digits)), str(own), **options, out=str(tmp_path / "r.json")))
    assert [(row["sigma"], row["trained"], row["verdict"]) for row in result["sigmas"]] == [
        (25 / 255, True, "within"),
        (0.3, False, "within"),
    ]
    assert json.loads((tmp_path / "r.json").read_text())["sigmas"] == result["sigmas"]
    printed = capsys.readouterr()
    assert "within, not trained on" in printed.out and "trained on noise up to 0.2 only, and not on: 0.3" in printed.out
    assert "note:" not in printed.err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sigmas": []}, "--sigmas"),
        ({"sigmas": [0.1, 0.1]}, "--sigmas"),
        ({"max_drop": 0}, "--max_drop"),
        ({"sample": 5}, "--sample"),
        ({"data": Labelled("/nowhere")}, "there is no folder /nowhere"),
        ({"sigmas": [1e9]}, r"sigma is 1e\+09: .*--sigmas"),
        ({"sigmas": [0.1, "much"]}, r"sigma is 'much': .*--sigmas"),
        ({"sigmas": [0.1, "0/255"]}, "above 0 .*--sigmas"),
    ],
)
def test_bad_requests_are_refused(digits, options, text: str) -> None:
    with pytest.raises(InputError, match=text):
        recommend_sigma(RecommendTask(**{"data": Labelled(str(digits)), "denoiser": DIGITS} | options))


def test_one_class_is_not_enough(tmp_path, colour_denoiser_folder) -> None:
    root = write_photos(tmp_path / "in", 30, classes=1)
    with pytest.raises(InputError, match=r"has 1 classes: accuracy needs at least two"):
        recommend_sigma(RecommendTask(Labelled(str(root)), colour_denoiser_folder))
