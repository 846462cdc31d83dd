"""What somebody has who installed the package and has no clone: the whole wheel, and commands that need nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.conftest import ROOT, SMALL
from tests.picture_folders import photo

PACKAGE = "poison_and_defend"
DENOISERS = ("cifar10", "digits", "mnist")
# A room of the package is any folder with an __init__.py at the top of the repository; PACKAGE is what they all lie in.
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != PACKAGE)


def installed_name(path: Path) -> str:
    """Where a file of the repository lies once it is installed."""
    inside = path.relative_to(ROOT)
    return str(inside if inside.parts[0] == PACKAGE else Path(PACKAGE) / inside)


def on_disk(pattern: str) -> set[str]:
    """Installed names of what matches in the package's folder and in every room."""
    found = (path for top in (PACKAGE, *ROOMS) for path in (ROOT / top).rglob(pattern))
    return {installed_name(path) for path in found if path.is_file() and "__pycache__" not in path.parts}


def test_every_folder_of_code_is_named_wherever_folders_must_be_named() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {str(Path(name).parent).replace(os.sep, ".") for name in on_disk("__init__.py")}
    assert set(settings["tool"]["setuptools"]["packages"]) == folders
    # A folder of modules without an __init__.py would be found from a clone and be missing in a wheel.
    assert {str(Path(name).parent).replace(os.sep, ".") for name in on_disk("*.py")} == folders
    assert settings["tool"]["setuptools"]["package-dir"] == {PACKAGE: PACKAGE} | {f"{PACKAGE}.{room}": room for room in ROOMS}
    banned = settings["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert sorted(banned) == ROOMS
    (rooms_of_make,) = re.findall(r"^ROOMS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert rooms_of_make.split() == ROOMS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: setuptools keeps what it copied in build/, and the next wheel would hold removed files."""
    copy, out = tmp_path_factory.mktemp("source") / "copy", tmp_path_factory.mktemp("wheels")
    leftovers = shutil.ignore_patterns(".*", "build", "runs", "wandb", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=leftovers)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={out}", str(copy)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """An environment that holds the wheel and nothing else of ours.

    Third-party packages are borrowed from the running environment, since to download torch takes minutes: a .pth file names
    its folders. Python reads no .pth files of folders that a .pth file names, so that the clone, which is installed there as
    editable through such a file, cannot be imported here.
    """
    environment = tmp_path_factory.mktemp("installed") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=120)
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    pip = [sys.executable, "-m", "pip", f"--python={environment / 'bin' / 'python'}"]
    result = subprocess.run([*pip, *install], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    (packages,) = environment.glob("lib/python*/site-packages")
    borrowed = [folder for folder in sys.path if Path(folder).name == "site-packages"]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))
    return environment


@pytest.fixture
def place(tmp_path) -> Path:
    """An empty working directory outside the clone."""
    folder = tmp_path / "empty"
    folder.mkdir()
    assert not folder.is_relative_to(ROOT)
    return folder


@pytest.fixture
def start(installed, place):
    """Runs a program of the installed environment in the empty working directory."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT")
    inherited = {key: value for key, value in os.environ.items() if key not in hidden}

    def run(program: str, *arguments: str) -> str:
        result = subprocess.run(
            [installed / "bin" / program, *arguments],
            cwd=place,
            env={**inherited, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.mark.slow
def test_the_wheel_is_one_package_with_every_file_that_lies_in_it(wheel) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    tops = {name.partition("/")[0] for name in names}
    (information,) = tops - {PACKAGE}
    assert re.fullmatch(rf"{PACKAGE}-[\w.]+\.dist-info", information)
    assert {f"{information}/{name}" for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")} <= names
    assert {name for name in names if name.startswith(f"{PACKAGE}/")} == on_disk("*")
    # That a file is on disk, too, is no proof that it should be.
    assert f"{PACKAGE}/py.typed" in names
    assert {f"{PACKAGE}/{room}/__init__.py" for room in ROOMS} <= names
    assert f"{PACKAGE}/configs/digits.yaml" in names and f"{PACKAGE}/configs/attack/paper/witches_brew.yaml" in names
    weights = {f"{PACKAGE}/pretrained/{name}/diffusion_pytorch_model.safetensors" for name in DENOISERS}
    assert weights <= names and f"{PACKAGE}/pretrained/digits/training_rows.npy" in names
    assert {f"{PACKAGE}/embedded/fashion_mnist.npz", f"{PACKAGE}/embedded/fashion_mnist.LICENSE.txt"} <= names


@pytest.mark.slow
def test_what_is_imported_is_what_was_installed(installed, start) -> None:
    # Of whatever else is in the environment, nothing answers to a room's bare name.
    program = f"""
import importlib.util, {PACKAGE}, {", ".join(f"{PACKAGE}.{room}" for room in ROOMS)}
print(*[module.__file__ for module in ({PACKAGE}, {", ".join(f"{PACKAGE}.{room}" for room in ROOMS)})], sep="\\n")
assert not any(map(importlib.util.find_spec, {ROOMS!r}))
from {PACKAGE}.cli.help.catalogue import read
from {PACKAGE}.cli.table import COMMANDS
assert all(map(read, COMMANDS)), "help is not of these sources, so that it takes seconds"
"""
    files = start("python", "-c", program).splitlines()
    assert len(files) == 1 + len(ROOMS) and all(Path(file).is_relative_to(installed) for file in files)
    assert f"{PACKAGE}/attacks/__init__.py" in "\n".join(files)


@pytest.mark.slow
def test_a_whole_experiment_by_the_console_script(start, place) -> None:
    arms = "--defenses=[no_attack,none,diffusion]"
    printed = start("poison-and-defend", "poison-and-defend", *SMALL, arms, "--output_dir=runs", "--name=one")
    run = place / "runs" / "one"
    assert "report.html" in printed and [path.name for path in place.iterdir()] == ["runs"]
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    assert len(rows) == 4 * 3 and {row["setup"] for row in rows} == {0, 1, 2, 3}
    succeeded = {name: sum(row["success"] for row in rows if row["defense"] == name) for name in ("none", "diffusion")}
    assert succeeded["none"] >= 3 and succeeded["diffusion"] < succeeded["none"]
    page = (run / "report.html").read_text()
    assert "Bullseye" in page and page.count("data:image/png;base64,") >= 2


@pytest.mark.slow
def test_a_folder_of_pictures_is_sanitized_by_a_denoiser_that_came_along(start, place) -> None:
    received = place / "received"
    for number in range(6):
        path = received / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number, 32, 32).save(path)
    options = ["--data.root=received", "--out=sanitized", "--denoiser=cifar10", "--sigma=0.1"]
    start("poison-and-defend", "sanitize", *options, "--trainer.accelerator=cpu")

    def names(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))

    assert names(place / "sanitized") == names(received) and len(names(received)) == 6
    for name in names(received):
        before, after = (np.asarray(Image.open(place / folder / name)).astype(int) for folder in ("received", "sanitized"))
        # Changed, and still the same picture.
        assert before.shape == after.shape and 1 < np.abs(before - after).mean() < 30


@pytest.mark.slow
def test_help_needs_no_clone(start, place) -> None:
    assert "--models" in start("poison-and-defend", "certify", "--help")
    overview = start("python", "-m", PACKAGE, "--help")
    assert all(f"  {command} " in overview for command in ("poison-and-defend", "sanitize", "certify", "fit"))
    assert not list(place.iterdir())
