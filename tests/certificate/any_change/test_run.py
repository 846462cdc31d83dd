import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from poison_and_defend.certificate.any_change import features
from poison_and_defend.certificate.any_change.plan import plan_any_change
from poison_and_defend.certificate.any_change.run import certify_any_change
from poison_and_defend.certificate.any_change.task import AnyChangeTask
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.options import from_flat
from poison_and_defend.datamodules import FashionMNISTDataModule
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.reports.any_change.records import NAMES, read_any_change
from poison_and_defend.reports.any_change.write import write_any_change_report
from poison_and_defend.training.launch import Launch

CPU = Launch(accelerator="cpu", devices=1)
LITE = Network("efficientnet_lite0", size=64)


def task(folder: Path, **changes: Any) -> AnyChangeTask:
    options: dict[str, Any] = {
        "data": FashionMNISTDataModule(),
        "networks": [LITE],
        "vouch": ["networks"],
        "trusted": 100,
        "test_images": 300,
        "k": [1, 10, 50],
        "name": "small",
        "output_dir": str(folder),
    }
    return from_flat(AnyChangeTask, options | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return certify_any_change(plan_any_change(task(tmp_path_factory.mktemp("any"))), CPU, "k: [1, 10, 50]\n")


def test_neighbours_stand_above_what_trusted_labels_do_alone(finished: Path) -> None:
    result = read_any_change(finished / "any_change.json")
    votes = {vote.name: vote for vote in result.votes}
    assert set(votes) == {"trusted", "neighbours", "partition", "run_off", "aggregation", "hybrid"}
    assert result.alone is not None and 0.6 < result.alone < 0.85
    neighbours = votes["neighbours"].certified
    # Better than the trusted labels where few are poisoned, and still near where one in forty is.
    assert neighbours[0] > result.alone + 0.03 and neighbours[2] > result.alone - 0.12
    assert votes["partition"].certified[0] > 0.7 and votes["partition"].certified[2] < 0.1
    for vote in result.votes:
        assert vote.certified == sorted(vote.certified, reverse=True) or vote.name in (
            "partition",
            "run_off",
            "aggregation",
            "hybrid",
        )
        assert all(one <= other for one, other in zip(vote.with_labels, vote.certified, strict=True))
        assert all(one <= other for one, other in zip(vote.certified, vote.accuracy, strict=True))
    assert result.certified and result.received == 2000 and result.features == 624


def test_shares_are_those_of_the_verdicts_that_are_kept(finished: Path) -> None:
    result, kept = read_any_change(finished / "any_change.json"), np.load(finished / "verdicts.npz")
    right = kept["answers"] == kept["labels"]
    for number, k in enumerate(result.k):
        every = {round(float(share), 9) for share in (right & (kept["poisons"] >= k)).mean(1)}
        assert {round(vote.certified[number], 9) for vote in result.votes} <= every


def test_a_page_and_a_picture_say_what_is_promised(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "up to k of the 2,000 received images are others" in page and "heads of trusted images and a part" in page
    assert page.count("base64,") == 1 and "https://" not in page and "ImageNet" not in page
    assert (finished / "figures" / "certified.png").read_bytes()[:4] == b"\x89PNG"
    before = (finished / "report.html").read_bytes()
    assert write_any_change_report(finished).read_bytes() == before


def test_given_again_nothing_is_computed_and_the_result_is_the_same(finished: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)

    def never(*args: Any) -> None:
        raise AssertionError("features are there")

    monkeypatch.setattr(features, "extract_features", never)
    certify_any_change(plan_any_change(task(tmp_path)), CPU, "k: [1, 10, 50]\n")
    old, new = (json.loads((folder / "small" / "any_change.json").read_text()) for folder in (finished.parent, tmp_path))
    changing = ("wall_seconds", "provenance")
    assert {k: v for k, v in old.items() if k not in changing} == {k: v for k, v in new.items() if k not in changing}


def test_a_piece_that_is_damaged_or_missing_costs_itself_alone(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    pieces = sorted((tmp_path / "features").glob("*.npy"))
    whole = pieces[0].read_bytes()
    pieces[0].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"is damaged or no features; remove it, and they are computed again"):
        certify_any_change(plan_any_change(task(tmp_path)), CPU, "")
    pieces[0].unlink()
    times = {path: path.stat().st_mtime_ns for path in pieces[1:]}
    certify_any_change(plan_any_change(task(tmp_path)), CPU, "")
    assert pieces[0].read_bytes() == whole and {path: path.stat().st_mtime_ns for path in pieces[1:]} == times


def test_a_labelled_reference_chooses_and_foretells(finished: Path, tmp_path: Path) -> None:
    """Here of the same kind of images; its own halves have different classes."""
    shutil.copytree(finished.parent / "features", tmp_path / "features")
    reference = FashionMNISTDataModule()
    reference._splits["train"] = reference.split("public")
    chosen = task(
        tmp_path, reference=reference, votes=["neighbours", "partition"], shares=[0.1, 0.2, 0.3], m=[10, 40], trusted=0
    )
    result = read_any_change(certify_any_change(plan_any_change(chosen), CPU, "") / "any_change.json")
    votes = {vote.name: vote for vote in result.votes}
    assert result.labelled and set(votes) == {"planned", "neighbours", "partition"} and result.alone is None
    for number in range(3):
        best = max((votes[name] for name in ("neighbours", "partition")), key=lambda vote: vote.foretold[number])
        assert votes["planned"].rules[number] == best.rules[number]
    # What is best for fifty poisons is not what is best for one.
    assert (
        votes["partition"].rules[0] != votes["partition"].rules[2]
        or votes["neighbours"].rules[0] != votes["neighbours"].rules[2]
    )
    assert set(NAMES) >= set(votes)


def test_what_voids_it_stands_on_the_page(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent / "features", tmp_path / "features")
    folder = certify_any_change(plan_any_change(task(tmp_path, vouch=[], uncertified=True)), CPU, "")
    assert "NOT CERTIFIED: networks (unknown)" in (folder / "report.html").read_text()


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"dataset": 3}'])
def test_a_damaged_record_is_a_sentence(finished: Path, tmp_path: Path, damage: bytes) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "any_change.json").write_bytes(damage)
    with pytest.raises(InputError, match=r"any_change.json .*no certificate of any change that can be shown"):
        write_any_change_report(tmp_path)


def test_a_vote_with_too_few_entries_is_no_vote(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    value = json.loads((tmp_path / "any_change.json").read_text())
    value["votes"][1]["certified"].pop()
    (tmp_path / "any_change.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="has not an entry for each number of poisons"):
        write_any_change_report(tmp_path)


class Batched(nn.Module):
    """Normalized by the statistics of whatever stands beside an image."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, stride=4), nn.BatchNorm2d(8, track_running_stats=False), nn.Flatten())
        self.head = nn.Linear(8 * 49, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


def test_features_that_depend_on_the_batch_are_refused(tmp_path: Path) -> None:
    network = Network(f"{__name__}.Batched")
    with pytest.raises(InputError, match="depend on the other images of a batch, so that one poison changes many"):
        certify_any_change(plan_any_change(task(tmp_path, networks=[network], vouch=[])), CPU, "")
