"""What a certificate is refused for, what its numbers are, and that they follow from the votes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poison_and_defend.certificate.claims import count_votes
from poison_and_defend.certificate.ingredients import Origins, check_public
from poison_and_defend.certificate.plan import plan_certificate
from poison_and_defend.certificate.run import certify
from poison_and_defend.certificate.task import CertifyTask
from poison_and_defend.certification import FixedSize, joint_lower, joint_upper, l2_norm, subsampled_set_radius, vote_bounds
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.options import from_flat
from poison_and_defend.datamodules import (
    ArraysDataModule,
    DiffusionSanitizeDataModule,
    DigitsDataModule,
    FashionMNISTDataModule,
    MNISTDataModule,
    Split,
)
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.reports.certificate.write import write_certificate_report
from poison_and_defend.training.launch import Launch

CPU = Launch(accelerator="cpu", devices=1)


def task(folder: Path, **changes: Any) -> CertifyTask:
    options: dict[str, Any] = {
        "data": DigitsDataModule(),
        "sigma": 0.2,
        "m": 40,
        "models": 120,
        "alpha": 0.01,
        "defense": "noise_only",
        "feature_draws": 0,
        "feature_recipe": Recipe(epochs=8, batch_size=64, learning_rate=0.05),
        "recipe": Recipe(epochs=60, batch_size=1024, learning_rate=0.05),
        "test_images": 200,
        "members_per_block": 50,
        "output_dir": str(folder),
        "name": "small",
        "wandb_project": None,
        "noise_seed": 0,
    }
    return from_flat(CertifyTask, options | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certify(plan_certificate(task(folder)), CPU, "sigma: 0.2")
    return folder / "small"


def test_the_numbers_follow_from_the_votes(finished: Path) -> None:
    result = json.loads((finished / "certificate.json").read_text())
    (record,) = result["settings"]
    arrays = np.load(finished / "sigma_0.2_m_40.npz")
    labels = DigitsDataModule().split("test").labels.numpy()[:200]
    assert arrays["counts"].shape == (200, 10) and (arrays["counts"].sum(1) == 120).all()
    bounds = vote_bounds(arrays["counts"], 0.01)
    right = bounds.labels == labels
    assert record["accuracy"] == pytest.approx(right.mean()) and record["accuracy"] > 0.9
    assert record["abstained"] == pytest.approx((bounds.winner <= 0.5).mean())
    # Claims about all 200 images at once have a 200th of alpha each; there is one setting, so that its choice costs nothing.
    together = vote_bounds(arrays["counts"], 0.01 / 200)
    for i, k in enumerate(result["k"]):
        for j, eps in enumerate((8 / 255, 16 / 255, 64 / 255, np.inf)):
            radius = l2_norm(eps, "linf", (1, 32, 32)) if np.isfinite(eps) else np.inf
            shares = {"table": bounds, "table_all_images": together, "table_all_settings": bounds}
            for table, own in shares.items():
                holds = joint_lower(own.winner, k, radius, 0.2, FixedSize(598, 40)) > 0.5
                assert record[table][i][j] == pytest.approx((right & holds).mean()), table
    radii = np.where(right & (bounds.winner > 0.5), subsampled_set_radius(bounds.winner, 0.2, 40 / 598), -1)
    assert arrays["radii"] == pytest.approx(radii)
    assert (arrays["paper_radii"] <= arrays["radii"]).all() and (np.diff(arrays["map_certified"], axis=1) <= 0).all()
    # The certificate of all images at once is the harder one, and a larger attack never certifies more.
    table, together = np.array(record["table"]), np.array(record["table_all_images"])
    assert (together <= table).all() and (np.diff(table, axis=0) <= 0).all() and (np.diff(table, axis=1) <= 0).all()
    assert result["certified"] and result["void"] == []


def test_a_finished_certificate_trains_nothing_and_more_models_keep_the_old_votes(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    votes = tmp_path / "small" / "votes" / "sigma_0.2_m_40"
    before = {path.name: path.stat().st_mtime_ns for path in votes.glob("*.npz")}
    certify(plan_certificate(task(tmp_path)), CPU, "")
    assert {path.name: path.stat().st_mtime_ns for path in votes.glob("*.npz")} == before
    certify(plan_certificate(task(tmp_path, models=160)), CPU, "")
    after = {path.name: path.stat().st_mtime_ns for path in votes.glob("*.npz")}
    assert after.items() > before.items() and set(after) - set(before) == {"votes_000120_000150.npz", "votes_000150_000160.npz"}
    result = json.loads((tmp_path / "small" / "certificate.json").read_text())
    assert result["settings"][0]["models"] == 160 and result["settings"][0]["looks"] == 3
    assert "4 claims have been made about this received set" in (tmp_path / "small" / "report.html").read_text()


def test_other_settings_do_not_mix_into_a_store(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "small" / "certificate.json").read_bytes()
    for changes, key in (
        ({"recipe": Recipe(epochs=5, batch_size=1024)}, "recipe"),
        ({"seed": 1}, "extractor"),
        ({"warm_start": "trusted"}, "start"),
    ):
        with pytest.raises(InputError, match=f"holds votes of models with .*{key}"):
            certify(plan_certificate(task(tmp_path, **changes)), CPU, "")
    assert (tmp_path / "small" / "certificate.json").read_bytes() == before


def test_selection_on_other_models_and_poisson_subsamples(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent / "models", tmp_path / "models")
    certify(plan_certificate(task(tmp_path, m=None, q=0.07, models=80, selection=30)), CPU, "")
    coming = json.loads((tmp_path / "small" / "certificate.json").read_text())["settings"][0]["membership"]
    # Images that come can only be missed; of those that go, some may have been what a vote rested on.
    assert set(coming) == {"added", "removed", "changed"} and coming["added"][0] >= coming["changed"][0] > 0.3
    assert all(shares == sorted(shares, reverse=True) for shares in coming.values())
    assert "Where images come and go" in (tmp_path / "small" / "report.html").read_text()
    result = json.loads((tmp_path / "small" / "certificate.json").read_text())
    arrays = np.load(tmp_path / "small" / "sigma_0.2_q_0.07.npz")
    assert (arrays["counts"].sum(1) == 80).all() and result["settings"][0]["selection"] == 30
    assert result["settings"][0]["accuracy"] > 0.9
    # One bound pays for no choice.
    unanimous = arrays["counts"].max(1) == 80
    assert arrays["lower_bounds"][unanimous] == pytest.approx(0.01 ** (1 / 80))


def test_pilots_choose_and_are_not_counted(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent / "models", tmp_path / "models")
    options: dict[str, Any] = {"m": [4, 40], "pilot": 12, "goal_k": 2, "goal_eps": "any", "models": 60}
    certify(plan_certificate(task(tmp_path, **options)), CPU, "")
    result = json.loads((tmp_path / "small" / "certificate.json").read_text())
    four, forty = result["forecasts"]
    at = four["models"].index(60)
    assert forty["expected"][at] > four["expected"][at] and [r["m"] for r in result["settings"]] == [40]
    # The forecast is about what then came true.
    assert abs(forty["expected"][at] - result["settings"][0]["table"][1][3]) < 0.15
    pilots = sorted(path.name for path in (tmp_path / "small" / "pilots" / "sigma_0.2_m_40").glob("*.npz"))
    assert pilots == ["votes_262132_262140.npz", "votes_262140_262144.npz"]
    assert not list((tmp_path / "small" / "votes" / "sigma_0.2_m_40").glob("votes_26*"))
    assert "choice of sigma and m" in {i["name"] for i in result["ingredients"]}
    assert (tmp_path / "small" / "figures" / "trade_off.png").exists()


def test_the_page_says_what_is_promised_assumed_and_void(finished: Path) -> None:
    page = write_certificate_report(finished).read_text()
    assert "wrong with chance at most 0.01" in page and "What voids it" in page and "trigger" in page
    assert "none of which is in the received set" in page and "The trusted images alone" in page
    assert page.count("data:image/png;base64,") == 2 and "http://" not in page and "https://" not in page


def arrays_module(folder: Path, public: str = "public", **options: Any) -> ArraysDataModule:
    digits = DigitsDataModule()
    for name in ("train", "test", "public"):
        split = digits.split(name)  # type: ignore[arg-type]
        np.savez(folder / f"{name}.npz", images=split.images.numpy(), labels=split.labels.numpy())
    return ArraysDataModule("train.npz", "test.npz", public=f"{public}.npz", root=str(folder), **options)


def origins(made: CertifyTask) -> dict[str, str]:
    return {i.name: i.origin for i in Origins(made, 1).ingredients()}


def test_the_datamodule_knows_where_its_statistics_are_from(tmp_path: Path) -> None:
    given = arrays_module(tmp_path, mean=[0.3], std=[0.4])
    public = arrays_module(tmp_path, statistics_from="public")
    raw = arrays_module(tmp_path)
    assert [data.statistics_origin for data in (given, public, raw)] == ["fixed", "trusted", "raw"]
    images = public.split("public").images.float() / 255
    assert public.mean[0] == pytest.approx(images.mean().item()) and public.std[0] == pytest.approx(images.std().item())
    assert raw.mean != public.mean


def test_whatever_saw_the_raw_set_voids(tmp_path: Path, denoiser_folder: str) -> None:
    sound = task(tmp_path, data=arrays_module(tmp_path, statistics_from="public"), defense="diffusion")
    assert origins(sound) == {
        "normalization": "trusted",
        "training length": "fixed",
        "denoiser": "trusted",
        "features": "trusted",
    }
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"data": arrays_module(tmp_path)}, "normalization", "computed from the received images.*--data.mean"),
        ({"data": arrays_module(tmp_path, "train", mean=[0.3], std=[0.4])}, "features", "made with 598 of the 598 images"),
        ({"warm_start": "raw"}, "warm start", "without noise"),
        ({"stop_on": "raw"}, "training length", "best on the received images"),
        ({"denoiser": denoiser_folder, "defense": "diffusion"}, "denoiser", r"nothing says which .*--vouch"),
        ({"features": "weights.safetensors"}, "features", "nothing says which images weights.safetensors"),
    ]
    for changes, name, message in cases:
        made = task(tmp_path, **changes)
        assert origins(made)[name] in ("raw", "unknown")
        with pytest.raises(InputError, match=f"this would be no certificate: {name}.*{message}"):
            certify(plan_certificate(made), CPU, "")
        assert not (tmp_path / "small").exists()


def test_a_set_that_another_defence_rewrote_is_not_the_received_one(tmp_path: Path) -> None:
    sanitized = DiffusionSanitizeDataModule(DigitsDataModule(), str(tmp_path / "store"), defense="jpeg")
    with pytest.raises(InputError, match=r"no certificate: received images \(raw\): another defence has rewritten them"):
        certify(plan_certificate(task(tmp_path, data=sanitized)), CPU, "")
    unchanged = DiffusionSanitizeDataModule(DigitsDataModule(), str(tmp_path / "store"), defense="none")
    assert "received images" not in origins(task(tmp_path, data=unchanged))


def test_a_denoiser_that_saw_a_few_of_the_received_images_is_found_out(tmp_path: Path) -> None:
    from poison_and_defend.images.row_digests import write_training_rows

    folder = tmp_path / "denoiser"
    shutil.copytree("poison_and_defend/pretrained/digits", folder)
    data = DigitsDataModule()
    seen = torch.cat([data.split("public").images, data.split("train").images[5:8]])
    write_training_rows(folder, seen)
    made = task(tmp_path, denoiser=str(folder), defense="diffusion", vouch=["denoiser"])
    with pytest.raises(InputError, match="nobody can vouch for the denoiser: made with 3 of the 598 images"):
        certify(plan_certificate(made), CPU, "")


def test_void_numbers_are_shown_on_demand_and_say_what_they_are(finished: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(finished.parent / "models", tmp_path / "models")
    certify(plan_certificate(task(tmp_path, warm_start="raw", uncertified=True, models=60)), CPU, "")
    result = json.loads((tmp_path / "small" / "certificate.json").read_text())
    assert not result["certified"] and "warm start (raw)" in result["void"][0]
    assert "NOT CERTIFIED" in (tmp_path / "small" / "report.html").read_text() and "NOT CERTIFIED" in capsys.readouterr().out


def test_a_data_set_without_a_public_part_is_told_what_to_give(tmp_path: Path) -> None:
    arrays_module(tmp_path)
    data = ArraysDataModule("train.npz", "test.npz", root=str(tmp_path), mean=[0.3], std=[0.4])
    with pytest.raises(InputError, match=r"out of the attacker's reach: .*no public part.*--features.*--learner network"):
        check_public(task(tmp_path, data=data))
    check_public(task(tmp_path, data=data, learner="network"))


def test_votes_are_counted_per_image_and_class() -> None:
    votes = np.random.default_rng(0).integers(0, 4, (50, 30)).astype(np.uint16)
    expected = np.array([[(votes[:, t] == c).sum() for c in range(4)] for t in range(30)])
    assert (count_votes(votes, 4) == expected).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.0}, r"alpha is 0: .*\(--alpha\)"),
        ({"alpha": 1.5}, r"alpha is 1.5"),
        ({"models": 7}, r"models is 7: at alpha 0.01 even unanimous votes certify nothing before 8 \(--models\)"),
        ({"models": 6, "selection": 5}, r"nothing before 7"),
        ({"models": 300_000}, r"there are seeds for 262144"),
        ({"models": 262_140, "pilot": 10}, r"pilots included"),
        ({"m": 599}, r"m is 599: a subsample holds 1 to 598 images.*\(--m\)"),
        ({"m": 0}, r"m is 0"),
        ({"m": None, "q": 0.0}, r"q is 0: .*\(--q\)"),
        ({"q": 0.1}, r"m and q both say"),
        ({"sigma": 0.0}, r"sigma is 0: without noise nothing is certified.*\(--sigma\)"),
        ({"sigma": [0.2, 0.2]}, r"each once \(--sigma"),
        ({"sigma": 500.0, "defense": "diffusion"}, r"sigma is 500: for images in \[0, 1\] it is at most 10"),
        ({"k": [1, 599]}, r"k is 599: there are 0 to 598 poisons"),
        ({"eps": ["-1/255"]}, r"eps is '-1/255': write a number of at least 0"),
        ({"eps": ["much"]}, r"eps is 'much'"),
        ({"test_images": 400}, r"test_images is 400: there are 1 to 399"),
        ({"goal_k": 700}, r"k is 700"),
        ({"vouch": ["cook"]}, r"'cook' is no part of this certificate"),
        ({"threads": 0}, r"threads is 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as stop:
        certify(plan_certificate(task(tmp_path, **changes)), CPU, "")
    assert "\n" not in str(stop.value) and not (tmp_path / "small").exists()


def test_mnist_needs_no_statistics_of_the_received_set() -> None:
    assert MNISTDataModule.statistics_origin == "fixed" == DigitsDataModule.statistics_origin


@pytest.mark.slow
def test_poisons_inside_the_budget_never_flip_a_certified_target(tmp_path: Path) -> None:
    """Bullseye Polytope, white box, against the 20 certified test images whose votes have least to spare."""
    options: dict[str, Any] = {"challenge": 20, "goal_k": 5, "goal_eps": "64/255", "models": 200, "m": 30, "test_images": None}
    options["feature_draws"] = 1
    certify(plan_certificate(task(tmp_path, **options)), CPU, "")
    (record,) = json.loads((tmp_path / "small" / "certificate.json").read_text())["settings"]
    found = record["challenge"]
    assert found["targets"] == 20 and found["flips"] == 0
    # The attack is a real one: it moves votes, and undefended it wins.
    assert found["retrained"] > 400 and found["undefended_flips"] >= 5
    before, after = np.array(found["votes_before"]), np.array(found["votes_after"])
    assert (before - after).mean() > 5 and (after > 100).all()


@pytest.mark.parametrize("changes", [{"learner": "network"}, {"goal_k": 0}, {"goal_eps": "any"}, {"goal_eps": 0.0}])
def test_a_challenge_needs_heads_and_a_budget(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"a challenge needs linear heads and a budget.*--goal_eps"):
        certify(plan_certificate(task(tmp_path, challenge=3, **changes)), CPU, "")


def test_pluralities_are_certified_where_each_rival_is_bounded_by_its_own_votes(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    changes = {"rivals": "each", "k": [1, 5], "eps": ["8/255"]}
    certify(plan_certificate(task(tmp_path, **changes)), CPU, "")
    result = json.loads((tmp_path / "small" / "certificate.json").read_text())
    (record,), arrays = result["settings"], np.load(tmp_path / "small" / "sigma_0.2_m_40.npz")
    assert result["rivals"] == "each" and result["eps"] == ["8/255", "any"]
    bounds = vote_bounds(arrays["counts"], 0.01, runner_up=True)
    right = bounds.labels == DigitsDataModule().split("test").labels.numpy()[:200]
    sampling, radius = FixedSize(598, 40), l2_norm(8 / 255, "linf", DigitsDataModule().image_shape)
    for i, k in enumerate((1, 5)):
        for j, eps in enumerate((radius, np.inf)):
            kept = joint_lower(bounds.winner, k, eps, 0.2, sampling) > joint_upper(bounds.others, k, eps, 0.2, sampling)
            assert record["table"][i][j] == pytest.approx((kept & right).mean())
    # Where majorities are clear, as among digits, the price of every class's bound is small.
    together = json.loads((finished / "certificate.json").read_text())["settings"][0]
    assert together["table"][2][-1] - 0.05 < record["table"][1][1] <= together["table"][2][-1]


def test_the_same_vote_without_noise_stands_beside(finished: Path) -> None:
    result = json.loads((finished / "certificate.json").read_text())
    (plain,) = result["bagging"]
    assert plain["sigma"] == 0 and plain["m"] == 40 and plain["median_radius"] == 0
    # A change of any size is as bad as any other.
    assert all(len(set(row)) == 1 for row in plain["table"])
    page = (finished / "report.html").read_text()
    assert "The same vote without noise" in page and "no noise, m 40 of 598" in page


def test_linear_heads_on_a_network_as_it_comes(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "data": FashionMNISTDataModule(),
        "network": Network("efficientnet_lite0", size=32),
        "features": "pretrained",
        "vouch": ["network"],
        "sigma": 0.02,
        "models": 40,
        "bagging": [],
    }
    certify(plan_certificate(task(tmp_path, **changes)), CPU, "")
    result = json.loads((tmp_path / "small" / "certificate.json").read_text())
    assert result["certified"] and result["settings"][0]["accuracy"] > 0.6 and result["settings"][0]["trusted_alone"] is None
    assert {i["name"]: i["origin"] for i in result["ingredients"]}["network"] == "vouched"
    assert not list((tmp_path / "models").glob("*.safetensors"))
    for wrong in ({"network": Network("convnet"), "vouch": []}, {"learner": "network"}, {"warm_start": "trusted"}):
        with pytest.raises(InputError, match=r"features is pretrained: linear heads .* need a network that comes trained"):
            plan_certificate(task(tmp_path, **(changes | wrong)))


def test_public_images_that_are_received_ones_once_more_are_named(tmp_path: Path) -> None:
    data = FashionMNISTDataModule()
    public, train = data.split("public"), data.split("train")
    data._splits["public"] = Split.joined([public, Split((train.images[:500].float() * 0.9).byte(), train.labels[:500])])
    with pytest.raises(InputError, match=r"features \(unknown\): \d+ public images look like received ones"):
        plan_certificate(task(tmp_path, data=data))
