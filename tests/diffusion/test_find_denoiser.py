import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.diffusion.find_denoiser import denoiser_names, find_denoiser


def test_the_packages_denoisers_are_found_by_name_from_any_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert denoiser_names() == ["cifar10", "digits", "fashion_mnist", "mnist", "photos-32", "photos-64"]
    assert load_denoiser("digits").channels == 1
    # As configurations recorded before they came with the package name them.
    assert find_denoiser("pretrained/digits_denoiser") == find_denoiser("digits")


def test_a_name_comes_before_a_path_and_a_path_before_what_it_was_called_once(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("digits", "mine", "pretrained/digits_denoiser"):
        (tmp_path / folder).mkdir(parents=True)
    assert find_denoiser("digits")[1] != tmp_path / "digits"
    for path in ("./digits", "mine", "pretrained/digits_denoiser"):
        name, folder = find_denoiser(path)
        assert name == path and folder.resolve() == (tmp_path / path).resolve()


def test_the_hub_is_asked_only_for_what_is_written_so(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_denoiser("hf:google/ddpm-cifar10-32") == ("google/ddpm-cifar10-32", None)
    with pytest.raises(
        InputError, match=r"hf:OWNER/NAME; the Hub's model of that name is hf:google/ddpm-cifar10-32 \(--denoiser\)"
    ):
        find_denoiser("google/ddpm-cifar10-32")


@pytest.mark.parametrize(
    "written", ["hf:", "hf:google", "hf:a/b/c", "hf:/etc", "hf:a b/c", "hf:../../x", "hf:../x", "hf:a/b\n"]
)
def test_what_names_no_model_of_the_hub_is_refused(written) -> None:
    with pytest.raises(InputError, match="names no model of the Hub: write hf:OWNER/NAME"):
        find_denoiser(written)


def test_a_folder_that_is_not_there_is_not_looked_for_elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def asked(*arguments, **options):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("diffusers.UNet2DModel.load_config", asked)
    for name in ("pretrained/other_denoiser", "someone/something", "digit"):
        with pytest.raises(InputError, match="there is no denoiser"):
            load_denoiser(name)


def test_a_folder_is_never_taken_for_a_model_of_the_hub(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "google" / "ddpm").mkdir(parents=True)
    with pytest.raises(InputError, match="but google/ddpm is here"):
        find_denoiser("hf:google/ddpm")
    assert find_denoiser("google/ddpm")[0] == "google/ddpm"
