"""What filters are given, what they leave, and what is kept of it."""

import json

import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from poison_and_defend.attacks import WitchesBrew
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses import ActivationClustering, Chain, CharacteristicVectors, Filter, PerfectFilter, Verdict
from poison_and_defend.experiment.steps.judge import Judgement, auroc, judge_all
from poison_and_defend.experiment.steps.protect import sanitize_all
from poison_and_defend.experiment.steps.surrogates import extractor
from poison_and_defend.experiment.steps.victim_networks import VictimNetworks
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.features import extract_features
from tests.small_experiments import blank_poisons

SEEN: list[tuple] = []


class Watching(Filter):
    """Remembers what it is given, and keeps all rows but every ``step``-th."""

    name = "watching"

    def __init__(self, step: int = 7, looks: bool = True) -> None:
        self.step, self.looks = step, looks

    def judge(self, received, workshop) -> Verdict:
        kept = torch.arange(len(received)) % self.step != 0
        features = workshop.features() if self.looks else None
        SEEN.append((received, features, workshop.network() if self.looks else None))
        return Verdict(kept, torch.arange(len(received)).float())


class Blind(Watching):
    """One that looks at no features."""

    name = "blind"
    needs = "nothing"

    def __init__(self, step: int = 5) -> None:
        super().__init__(step, looks=False)


class Unaware(Blind):
    """One that is told nothing."""

    name = "unaware"
    told_of = "nothing"


class Oracle(Blind):
    """One that is told which rows are poisoned."""

    name = "oracle"
    told_of = "poisons"


class Refusing(Blind):
    """One that needs more rows than there are."""

    name = "refusing"

    def __init__(self, least: int = 500) -> None:
        super().__init__()
        self.least = least

    def check_set(self, labels, bound) -> None:
        if len(labels) < self.least:
            raise InputError(f"refusing has {len(labels)} rows and needs {self.least} (--defenses)")


@pytest.fixture
def judged(plan):
    """Judges every setup of a small experiment by filters."""

    def judge(*filters: Filter, attacked: bool = True, **changes) -> tuple:
        own = plan(arms={"own": Chain(list(filters), attacked)}, **changes)
        own.folder.mkdir(parents=True, exist_ok=True)
        sets = blank_poisons(own)
        base = None if own.scenario == "from_scratch" else extractor(own, own.victims[0], Ranks())
        networks = VictimNetworks(own, own.victims[0], base)
        SEEN.clear()
        found = judge_all(own, own.arms["own"], networks, sets, sanitize_all(own, sets, Ranks())["own"], Ranks())
        return own, base, sets, found

    return judge


def received_images(plan, poisons) -> torch.Tensor:
    images = plan.data.split("train").images.clone()
    images[torch.from_numpy(poisons.setup.base_indices)] = poisons.images
    return images


def test_auroc_is_that_of_scikit_learn_with_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    for levels in (2, 5, 1000):
        scores = torch.randint(levels, (200,), generator=generator).float()
        positive = torch.rand(200, generator=generator) < 0.1
        assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive.numpy(), scores.numpy()), abs=1e-12)


def test_shares_are_of_poisons_and_of_other_rows() -> None:
    poisons = torch.tensor([True, True, False, False, False])
    found = Judgement(torch.tensor([1, 2, 4]), torch.tensor([5.0, 1, 2, 3, 0]), poisons).shares()
    assert found["poisons_dropped"] == 0.5 and found["clean_dropped"] == pytest.approx(1 / 3)
    # Of six pairs the first poison wins three, and the second one.
    assert found["auroc"] == pytest.approx(4 / 6)
    control = Judgement(torch.tensor([1, 2, 4]), torch.zeros(5), torch.zeros(5, dtype=torch.bool)).shares()
    assert control == {"auroc": None, "poisons_dropped": None, "clean_dropped": pytest.approx(0.4)}


def test_features_in_transfer_are_the_frozen_extractors(judged) -> None:
    own, base, sets, _ = judged(Watching())
    assert len(SEEN) == 2
    for (received, features, network), poisons in zip(SEEN, sets, strict=True):
        images = received_images(own, poisons)
        assert torch.equal(received.images, images) and torch.equal(received.labels, own.data.split("train").labels)
        assert network is base and received.bound == own.told == 5
        torch.testing.assert_close(features, extract_features(base, images, torch.device("cpu")))


def test_features_from_scratch_are_of_a_network_trained_on_the_received_set(judged) -> None:
    own, _, sets, _ = judged(
        Watching(), scenario="from_scratch", attack=WitchesBrew("64/255", steps=2, max_shift=0.0, flip=False)
    )
    networks = [network for _, _, network in SEEN]
    assert not torch.equal(networks[0].head.weight, networks[1].head.weight)
    for (received, features, network), poisons in zip(SEEN, sets, strict=True):
        assert torch.equal(received.images, received_images(own, poisons))
        torch.testing.assert_close(features, extract_features(network, received.images, torch.device("cpu")))
        fresh = VictimNetworks(own, "convnet", None).build(0)
        untrained = extract_features(fresh, received.images, torch.device("cpu"))
        assert not torch.allclose(features, untrained, atol=0.1)


def test_the_network_of_a_filter_begins_elsewhere_than_its_victims(judged) -> None:
    """The generator that weights come from looks at the lower half of a seed alone."""
    own, _, sets, _ = judged(
        Watching(),
        scenario="from_scratch",
        attack=WitchesBrew("64/255", steps=2, max_shift=0.0, flip=False),
        victim_recipe=Recipe(epochs=1, learning_rate=1e-9),
    )
    for (_, _, network), poisons in zip(SEEN, sets, strict=True):
        victims = VictimNetworks(own, "convnet", None).build(poisons.setup.seed)
        assert not torch.allclose(network.head.weight, victims.head.weight, atol=1e-3)


def test_the_second_filter_sees_what_the_first_left(judged) -> None:
    own, _, sets, found = judged(Watching(), Blind())
    count = len(own.data.split("train"))
    first = torch.arange(count)[torch.arange(count) % 7 != 0]
    second = first[torch.arange(len(first)) % 5 != 0]
    assert len(SEEN) == 4
    for poisons, judgement, (received, *_) in zip(sets, found, SEEN[2:], strict=True):
        assert torch.equal(received.images, received_images(own, poisons)[first])
        assert torch.equal(received.keys, first)
        assert torch.equal(judgement.positions, second)
        # The scores that are compared with the truth are of all rows.
        assert torch.equal(judgement.scores, torch.arange(count).float())
        assert judgement.poisons.nonzero()[:, 0].tolist() == sorted(poisons.setup.base_indices.tolist())


def test_what_is_there_is_not_judged_again_and_one_that_is_missing_is(judged) -> None:
    own, *_ = judged(Blind())
    folder = own.folder / "verdicts" / "own" / "convnet" / "0_blind"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert len(before) == 4
    judged(Blind())
    assert not SEEN
    (folder / "setup_001.json").unlink()
    judged(Blind())
    assert len(SEEN) == 1
    for path in folder.iterdir():
        assert path.read_bytes() == before[path.name][0]
        assert (path.stat().st_mtime_ns == before[path.name][1]) == path.name.startswith("setup_000")


@pytest.mark.parametrize("harm", ["cut", "altered", "no json", "of another length"])
def test_a_damaged_verdict_is_refused(judged, harm: str) -> None:
    own, *_ = judged(Blind())
    path = own.folder / "verdicts" / "own" / "convnet" / "0_blind" / "setup_000.safetensors"
    record = json.loads(path.with_suffix(".json").read_text())
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif harm == "altered":
        path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    elif harm == "no json":
        path.with_suffix(".json").write_text("{")
    else:
        from poison_and_defend.experiment.steps.verdict_files import save_verdict

        short = Verdict(torch.ones(3, dtype=torch.bool), torch.zeros(3))
        save_verdict(path, short, {key: record[key] for key in ("told", "made_with", "setup")})
    with pytest.raises(InputError, match=r"setup_000.*no verdict of a filter.*--name"):
        judged(Blind())


def test_a_verdict_of_other_settings_is_refused(judged) -> None:
    judged(Blind())
    with pytest.raises(InputError, match=r"setup_000.*other settings.*--arms.own"):
        judged(Blind(step=6))
    with pytest.raises(InputError, match=r"setup_000.*other settings.*--arms.own"):
        judged(Blind(), poisons_told=2)


def test_a_verdict_depends_on_the_filters_before_it_and_not_on_those_after_it(judged) -> None:
    judged(Watching(), Blind())
    # The first filter's verdicts still hold; the second's are another's.
    with pytest.raises(InputError, match=r"1_blind/setup_000.*other settings"):
        judged(Watching(), Blind(step=6))
    with pytest.raises(InputError, match=r"0_watching/setup_000.*other settings"):
        judged(Watching(step=6), Blind())
    assert not SEEN


def test_a_filter_is_handed_what_it_says_that_it_is_told_and_nothing_else(judged) -> None:
    own, _, sets, _ = judged(Unaware(), Blind(), Oracle())
    unaware, blind, oracle = ([seen[0] for seen in SEEN[start : start + 2]] for start in (0, 2, 4))
    assert [received.bound for received in (*unaware, *blind, *oracle)] == [None, None, 5, 5, None, None]
    assert all(received.oracle_poisons is None for received in (*unaware, *blind))
    for received, poisons in zip(oracle, sets, strict=True):
        # Of the rows that the others left, in their order.
        wanted = torch.isin(received.keys, torch.from_numpy(poisons.setup.base_indices))
        assert torch.equal(received.oracle_poisons, wanted) and len(wanted) < 400 and wanted.any()
    assert own.arms["own"].told(own.told) == "5 poisons of a class at most; which rows are poisoned"
    folder = own.folder / "verdicts" / "own" / "convnet"
    said = [json.loads((folder / name / "setup_000.json").read_text())["told"] for name in ("0_unaware", "1_blind", "2_oracle")]
    assert said == ["", "5 poisons of a class at most", "which rows are poisoned"]


def test_the_perfect_filter_drops_all_poisons_and_in_an_arm_without_attack_nothing(judged) -> None:
    _, _, sets, found = judged(PerfectFilter())
    for poisons, judgement in zip(sets, found, strict=True):
        assert judgement.shares() == {"auroc": 1.0, "poisons_dropped": 1.0, "clean_dropped": 0.0}
        rows = range(len(judgement.scores))
        assert sorted(set(rows) - set(judgement.positions.tolist())) == sorted(poisons.setup.base_indices.tolist())
    _, _, _, control = judged(PerfectFilter(), attacked=False, name="control")
    for judgement in control:
        assert judgement.shares() == {"auroc": None, "poisons_dropped": None, "clean_dropped": 0.0}


def test_what_is_told_to_others_changes_no_verdict(judged) -> None:
    judged(Unaware())
    judged(Unaware(), poisons_told=2)
    assert not SEEN
    judged(Unaware(), Blind())
    with pytest.raises(InputError, match=r"1_blind/setup_000.*other settings.*--arms.own"):
        judged(Unaware(), Blind(), poisons_told=2)


def test_a_filter_that_has_too_few_rows_left_says_so_before_anything_is_trained(judged) -> None:
    # 478 of 598 rows are left.
    with pytest.raises(InputError, match="refusing has 478 rows and needs 500"):
        judged(Blind(), Refusing())
    assert len(SEEN) == 2


def test_a_filter_that_looks_through_the_network_finds_its_batch_normalization(judged, tmp_path) -> None:
    """Features of a network that is taken as it comes are computed in a form without."""
    own, base, _, found = judged(CharacteristicVectors(), network=Network("convnet_wide"))
    assert base is not None and own.victims == ("convnet_wide",)
    save_file(base.state_dict(), tmp_path / "given.safetensors")
    given = Network("convnet_wide", weights=str(tmp_path / "given.safetensors"))
    _, folded, _, frozen = judged(CharacteristicVectors(), network=given, frozen=True, name="frozen")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    for trained, taken in zip(found, frozen, strict=True):
        assert 0 < len(trained.positions) < len(trained.scores)
        assert torch.equal(trained.positions, (trained.scores <= 0).nonzero()[:, 0])
        # One set of weights, the whole network in one case and its fast form in the other.
        torch.testing.assert_close(taken.scores, trained.scores)


def test_a_network_from_scratch_is_looked_through_too(judged) -> None:
    scratch = {"scenario": "from_scratch", "attack": WitchesBrew("64/255", steps=2, max_shift=0.0, flip=False)}
    _, _, _, found = judged(
        CharacteristicVectors(), ActivationClustering("exclusionary"), network=Network("convnet_wide"), **scratch
    )
    for judgement in found:
        assert 0 < len(judgement.positions) < len(judgement.scores)
