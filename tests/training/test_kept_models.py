"""Networks that were kept are found again: the names of their files are those of every version before."""

import json

import pytest
import torch

from poison_and_defend.core.hashing import hash_state
from poison_and_defend.datamodules import Split
from poison_and_defend.lightning_modules.networks.spec import OURS, Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.kept_models import ModelSpec
from tests.lightning_modules.networks.zoo import HERE

# What they were while a network was nothing but a name.
FORMER = json.loads("""
{
 "convnet": ["f431362392b52470", "convnet-f666f09208a754f5.safetensors", "80e04b444da1979e"],
 "convnet_wide": ["4ccfea8eeccdd476", "convnet_wide-8862425ffed162f4.safetensors", "b844396613a6f0cb"],
 "patchnet": ["a0b715ff17ea8086", "patchnet-92b869f13b34c23b.safetensors", "29fec87b5ef3f248"],
 "resnet18": ["4dd685ca1b3df814", "resnet18-1f67a3da4b66c44a.safetensors", "60477d492c95c970"],
 "resnet18_slim": ["e7611e838e2934ef", "resnet18_slim-83dfbca28388fc73.safetensors", "c45ab62a81f490f4"],
 "resnet34": ["34abfc56de69af36", "resnet34-8470379619e6cb99.safetensors", "3f0978840bf8ce04"],
 "vgg11": ["4fb725a1daed6949", "vgg11-59741cb81735ad0f.safetensors", "92ff271e55811b6b"],
 "vgg16": ["a073521ec0ecb31a", "vgg16-10db6036573f2319.safetensors", "2f77216ccb0eaf16"],
 "mobilenet_v2": ["400194f3803f3447", "mobilenet_v2-3c232e729f20e708.safetensors", "6552282b34f1e1f9"],
 "dropout": ["3bdf613c36b09b4e", "convnet-8ecfd184a905ade5.safetensors", "e42dca2595872aab"]
}
""")


class Data:
    mean, std = (0.25, 0.5, 0.125), (0.25, 0.2, 0.5)


def spec(network: Network, *, seed: int = 7, recipe: Recipe | None = None, dropout: float = 0.0, threads: int = 1) -> ModelSpec:
    images = (torch.arange(2 * 3 * 32 * 32) % 251).to(torch.uint8).view(2, 3, 32, 32)
    split = Split(images, torch.tensor([0, 1]))
    return ModelSpec(network, seed, recipe or Recipe(), split, 2, Data(), dropout, threads)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in OURS if name in FORMER])
def test_names_and_weights_of_our_networks_are_what_they_were(name: str) -> None:
    own = spec(Network(name))
    assert [own.group, own.file_name, hash_state(own.build().state_dict())] == FORMER[name]


def test_the_name_of_a_network_with_dropout_is_what_it_was() -> None:
    own = spec(Network("convnet"), seed=2**62 - 1, recipe=Recipe(epochs=3), dropout=0.3, threads=2)
    assert [own.group, own.file_name, hash_state(own.build().state_dict())] == FORMER["dropout"]


def test_options_of_a_network_tell_files_apart_and_make_names_of_files() -> None:
    described = [
        Network("convnet"),
        Network("convnet", size=16),
        Network("convnet", mean=[0.1]),
        Network("timm:resnet10t"),
        Network("timm:resnet10t", {"stem_width": 8}),
        Network(f"{HERE}.Own"),
        Network("hf:owner/name"),
    ]
    names = [spec(network).file_name for network in described]
    assert len(set(names)) == len(names)
    assert not any(set(name) & set("/:") for name in names) and names[-1].startswith("hf_owner_name-")
