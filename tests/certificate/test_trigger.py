"""Test images under noise of each model's own, and what a trigger on them can then do."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poison_and_defend.certificate.claims import count_votes
from poison_and_defend.certificate.models import CertifyModels
from poison_and_defend.certificate.plan import CertificatePlan, plan_certificate
from poison_and_defend.certificate.run import certify
from poison_and_defend.certificate.secret import settle_randomness
from poison_and_defend.certificate.voters import Voters, noise_seed_of_tests
from poison_and_defend.certification import FixedSize, joint_lower, l2_norm, subsampled_set_radius, vote_bounds
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses import NoiseOnly
from poison_and_defend.reports.certificate.page import render_certificate
from poison_and_defend.reports.certificate.records import read_certificate
from tests.certificate.test_run import CPU, task

TEST_SIGMA, TRIGGER = 0.15, 1 / 255
OPTIONS: dict[str, Any] = {
    "test_sigma": TEST_SIGMA,
    "trigger": "1/255",
    "k": [1, 3],
    "test_images": 32,
    "bagging": 40,
    "sanitize_batch_size": 32,
}
SHIFT = l2_norm(TRIGGER, "linf", (1, 32, 32)) / TEST_SIGMA


@pytest.fixture(scope="module")
def noised(tmp_path_factory: pytest.TempPathFactory) -> CertificatePlan:
    plan = plan_certificate(task(tmp_path_factory.mktemp("triggers"), **OPTIONS))
    certify(plan, CPU, "test_sigma: 0.15")
    return plan


def _voters(plan: CertificatePlan) -> Voters:
    ranks = Ranks()
    return CertifyModels(plan, settle_randomness(plan.folder, plan.noise_seed, ranks), ranks).voters(plan.settings[0])[0]


def test_the_trigger_is_in_every_number(noised: CertificatePlan) -> None:
    result = json.loads((noised.folder / "certificate.json").read_text())
    assert (result["test_sigma"], result["trigger"]) == (TEST_SIGMA, "1/255")
    labels = noised.tested.labels.numpy()
    for record, sigma in ((result["settings"][0], 0.2), (result["bagging"][0], 0.0)):
        arrays = np.load(noised.folder / f"sigma_{sigma:g}_m_40.npz")
        bounds = vote_bounds(arrays["counts"], 0.01)
        right = bounds.labels == labels
        for i, k in enumerate(result["k"]):
            for j, eps in enumerate((8 / 255, 16 / 255, 64 / 255, np.inf)):
                radius = l2_norm(eps, "linf", (1, 32, 32)) if sigma and np.isfinite(eps) else np.inf
                left = joint_lower(bounds.winner, k, radius, sigma or 1.0, FixedSize(598, 40), SHIFT)
                assert record["table"][i][j] == pytest.approx((right & (left > 0.5)).mean())
    # The noise costs accuracy, the trigger more, and something is left.
    assert 0 < result["settings"][0]["table"][0][0] < result["settings"][0]["certified_unattacked"]


def test_what_the_trigger_takes_is_taken_before_the_set_changes(noised: CertificatePlan) -> None:
    (record,) = json.loads((noised.folder / "certificate.json").read_text())["settings"]
    arrays = np.load(noised.folder / "sigma_0.2_m_40.npz")
    bounds = vote_bounds(arrays["counts"], 0.01)
    left = joint_lower(bounds.winner, 0, 0.0, 0.2, FixedSize(598, 40), SHIFT)
    leads = (bounds.labels == noised.tested.labels.numpy()) & (left > 0.5)
    expected = np.where(leads, subsampled_set_radius(left, 0.2, 40 / 598), -1.0)
    np.testing.assert_allclose(arrays["radii"], expected, atol=1e-6)
    assert record["largest_radius"] == pytest.approx(max(0.0, expected.max()), abs=1e-6)


def test_every_model_sees_a_test_image_under_noise_of_its_own(noised: CertificatePlan) -> None:
    voters = replace(_voters(noised), features=None, tested=noised.tested.images)
    seen = voters._tested_by([7, 90], torch.device("cpu"))
    assert seen is not None
    images, rows, draws = noised.tested.images[:32], torch.arange(32), torch.full((32,), 90)
    shown = [seen(place, images, rows) for place in (0, 1)]
    direct = NoiseOnly(TEST_SIGMA, seed=noise_seed_of_tests(voters.seed))(images, rows, draws)
    assert torch.equal(shown[1], direct)
    # Pixels in the middle of the range are not clipped, so that the noise itself is seen: its size, and that none is shared.
    clean = images.float() / 255
    middle = (clean > 0.45) & (clean < 0.55)
    first, second = (((own.float() / 255) - clean)[middle] for own in shown)
    assert first.std().item() == pytest.approx(TEST_SIGMA, rel=0.1)
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1].item()) < 4 / len(first) ** 0.5
    trained = NoiseOnly(TEST_SIGMA, seed=voters.defense.seed)(images, rows, draws)  # type: ignore[attr-defined]
    assert not torch.equal(trained, direct)


def test_a_models_vote_does_not_depend_on_those_beside_it(noised: CertificatePlan) -> None:
    voters = _voters(noised)
    together, marks = voters.train([3, 4, 5], Ranks())
    alone, mark = voters.train([4], Ranks())
    assert np.array_equal(together[1], alone[0]) and marks[1] == mark[0]


def test_triggers_inside_the_budget_never_turn_a_certified_vote(noised: CertificatePlan) -> None:
    voters = _voters(noised)
    arrays = np.load(noised.folder / "sigma_0.2_m_40.npz")
    left = joint_lower(arrays["lower_bounds"], 0, 0.0, 0.2, FixedSize(598, 40), SHIFT)
    certified = (left > 0.5).nonzero()[0]
    assert len(certified) >= 10
    # The border of the ball, towards the image that looks least like it: a second class in the pixels.
    step = torch.where(noised.tested.images.flip(0) > noised.tested.images, 1, -1)
    triggered = (noised.tested.images.int() + step).clamp(0, 255).to(torch.uint8)
    votes, _ = replace(voters, tested=triggered).train(range(120), Ranks())
    counts = count_votes(votes, 10)
    assert (counts[certified].argmax(1) == arrays["winners"][certified]).all()


def test_the_page_says_what_it_holds_for(noised: CertificatePlan) -> None:
    result = read_certificate(noised.folder / "certificate.json")
    page = render_certificate("t", result, {}, "")
    assert "with the test image changed by up to 1/255 (linf) besides" in page
    assert "a change of the test image of more than 1/255 (linf)" in page and "it is not noised" not in page
    assert "under noise of its own, sigma 0.15" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trigger": "4/255"}, r"trigger is 4/255 and test_sigma 0: .*\(--trigger, --test_sigma\)"),
        ({"trigger": "any", "test_sigma": 0.1}, r"trigger is any and test_sigma 0.1: a finite change"),
        ({"trigger": -0.1, "test_sigma": 0.1}, r"trigger is -0.1: write a number of at least 0.*\(--trigger\)"),
        ({"test_sigma": -0.1}, r"sigma"),
        ({"test_sigma": 0.1, "challenge": 3}, r"challenge is 3 and test_sigma 0.1: .*\(--challenge, --test_sigma\)"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_certificate(task(tmp_path, **changes))
