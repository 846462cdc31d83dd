from typing import Any

import numpy as np
import pytest
import torch

from poison_and_defend.certificate.any_change.plan import plan_any_change
from poison_and_defend.certificate.any_change.task import AnyChangeTask
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.options import from_flat
from poison_and_defend.datamodules import FashionMNISTDataModule, Split
from poison_and_defend.lightning_modules.networks.spec import Network


def task(**changes: Any) -> AnyChangeTask:
    options: dict[str, Any] = {"data": FashionMNISTDataModule(), "networks": [Network("convnet")], "k": [1, 5]}
    return from_flat(AnyChangeTask, options | changes)


class Bare(FashionMNISTDataModule):
    """Without a public part."""

    def load(self, name):
        if name == "public":
            raise InputError("nothing is public")
        return super().load(name)


def reference(rows: slice, classes: int = 10) -> FashionMNISTDataModule:
    """A data set of some rows of Fashion-MNIST's public part."""
    data = FashionMNISTDataModule()
    split = data.split("public")
    keep = np.flatnonzero(split.labels.numpy() < classes)[rows]
    data._splits["train"] = split.subset(keep)
    return data


def test_what_is_received_and_what_is_trusted() -> None:
    plan = plan_any_change(task(trusted=50, test_images=30))
    assert len(plan.train) == len(plan.rows) == 2000 and len(plan.trusted) == 50 and len(plan.tested) == 30
    assert torch.equal(plan.trusted.images, plan.data.split("public").images[:50]) and not plan.labelled
    assert [i.origin for i in plan.ingredients] == ["fixed", "fixed", "trusted", "trusted", "fixed"]
    # Without a public part trusted images are received ones that were checked.
    other = plan_any_change(task(data=Bare(), reference=reference(slice(None)), trusted=50, seed=3))
    assert len(other.rows) == 1950 and other.labelled
    left = torch.cat([other.train.images[other.rows], other.trusted.images]).flatten(1).sum(1).sort().values
    assert torch.equal(left, other.train.images.flatten(1).sum(1).sort().values)
    assert {i.name: i.origin for i in other.ingredients}["trusted images"] == "vouched"


@pytest.mark.parametrize(
    ("network", "origin"),
    [
        (Network("convnet"), "raw"),
        (Network("convnet", mean=[0.5]), "raw"),
        (Network("convnet", std=[0.5]), "raw"),
        (Network("convnet", mean=[0.5], std=[0.5]), None),
        (Network("efficientnet_lite0", size=32), None),
        (Network("efficientnet_lite0", size=32, mean=None), None),
    ],
)
def test_statistics_of_the_received_set_are_found_in_what_is_built(network: Network, origin: str | None) -> None:
    data = FashionMNISTDataModule()
    data.statistics_origin = "raw"
    plan = plan_any_change(task(data=data, networks=[network], vouch=["networks"] if network.trained else [], uncertified=True))
    assert {i.name: i.origin for i in plan.ingredients}.get("normalization") == origin


def test_a_reference_is_cut_to_as_many_of_every_class() -> None:
    plan = plan_any_change(task(reference=reference(slice(None)), reference_rows=305))
    assert plan.reference.labels.bincount().tolist() == [30] * 10


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"k": [2001]}, r"k is 2001: there are 0 to 2000 poisons"),
        ({"k": []}, r"name at least one number of poisons \(--k\)"),
        ({"networks": []}, r"networks is empty"),
        ({"networks": [Network("nothing")]}, r"--networks"),
        ({"votes": []}, r"votes is \[\]: name some of neighbours"),
        ({"radii": [1.0]}, r"radius 1 is outside \(-1, 1\): it is a cosine \(--radii\)"),
        ({"radii": [-1.5]}, r"radius -1.5 is outside"),
        ({"shares": [0.0]}, r"share 0 is outside \(0, 1\)"),
        ({"shares": [0.1], "radii": [0.1]}, r"shares and radii both say"),
        ({"shares": [0.1, 0.2]}, r"one value, or several of which a labelled reference chooses \(--shares, --reference\)"),
        ({"m": []}, r"m is \[\]: one value"),
        ({"m": [1001]}, r"m is 1001: a part of 2000 received images has 1 to 1000"),
        ({"spread": 1}, r"spread is 1: a bucket is seen by 2 to 10 heads"),
        ({"spread": 5000}, r"spread is 5000: a bucket is seen by 2 to 10"),
        ({"spread": 8, "m": [5]}, r"spread is 8: a bucket is seen by 2 to 5"),
        ({"votes": ["hybrid"]}, r"votes is hybrid alone: its heads see trusted images, of which there are 0"),
        ({"trusted": 9}, r"trusted is 9: at least one a class, 10, and fewer than 4000 public images"),
        ({"trusted": -1}, r"trusted is -1"),
        ({"test_images": 1001}, r"test_images is 1001: there are 1 to 1000"),
        ({"data": Bare()}, r"images out of the attacker's reach: nothing is public; or name a labelled data set of them"),
        ({"data": Bare(), "reference": reference(slice(None)), "trusted": 2000}, r"fewer than 2000 training images, not all"),
        ({"reference": reference(slice(None), classes=3)}, r"the reference has 3 classes and 1 channels: at least 4 classes"),
        ({"reference": reference(slice(None)), "reference_rows": 100}, r"reference_rows is 100"),
        ({"vouch": ["denoiser"]}, r"'denoiser' is no part of this certificate"),
    ],
)
def test_bad_input_is_refused_before_a_feature_is_computed(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        plan_any_change(task(**changes))


def test_features_of_a_network_that_may_have_seen_anything_need_a_word(tmp_path) -> None:
    network = Network("convnet", weights=str(tmp_path / "w.safetensors"))
    from safetensors.torch import save_file

    from poison_and_defend.lightning_modules.networks.build import build_network

    save_file(build_network("convnet", in_channels=1, num_classes=2).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"no certificate: networks \(unknown\): nothing says which images .* \(--vouch\)"):
        plan_any_change(task(networks=[network]))
    assert plan_any_change(task(networks=[network], vouch=["networks"])).void == []
    assert plan_any_change(task(networks=[network], uncertified=True)).void != []


def test_trusted_images_are_compared_whatever_the_reference_is() -> None:
    data = FashionMNISTDataModule()
    public, train = data.split("public"), data.split("train")
    data._splits["public"] = Split.joined([train.subset(np.arange(3)), public])
    with pytest.raises(InputError, match=r"trusted images \(raw\): 3 of its 4003 images are among those"):
        plan_any_change(task(data=data, reference=reference(slice(None)), trusted=50))
    plan_any_change(task(data=data, reference=reference(slice(None))))


def test_a_reference_that_was_received_is_no_reference() -> None:
    data = FashionMNISTDataModule()
    public, train = data.split("public"), data.split("train")
    joined = FashionMNISTDataModule()
    joined._splits["train"] = Split.joined([public, train.subset(np.arange(7))])
    with pytest.raises(
        InputError, match=r"reference \(raw\): 7 of its 4007 images are among those that an attacker may change"
    ):
        plan_any_change(task(reference=joined))
    with pytest.raises(InputError, match="nobody can vouch for the reference"):
        plan_any_change(task(reference=joined, vouch=["reference"]))
    # Lightly changed copies are others to a digest.
    copies = (train.images[:400].float() * 0.9).byte()
    joined._splits["train"] = Split.joined([public, Split(copies, train.labels[:400])])
    with pytest.raises(InputError, match=r"reference \(unknown\): \d+ of its 4400 images look like received ones: .* like"):
        plan_any_change(task(reference=joined))
