import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from poison_and_defend.attacks.threat.additive_trigger import AdditiveTrigger
from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.trigger import PatchTrigger, Trigger
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.experiment.steps.craft import keep_imported
from poison_and_defend.poisons.exchange import export_poisons, import_poisons, to_benchmark
from poison_and_defend.poisons.files import save_poisons


def make(plan, trigger: Trigger | None = None) -> list[PoisonSet]:
    train, test = plan.data.split("train"), plan.data.split("test")
    sets = []
    for setup in plan.setups:
        bases = train.images[torch.from_numpy(setup.base_indices)]
        noise = torch.randint(-20, 21, bases.shape, generator=torch.Generator().manual_seed(setup.index))
        poisons = (bases.int() + noise).clamp(0, 255).to(torch.uint8)
        goal = "targets" if trigger is None else "source"
        budget = Budget("linf", 20 / 255)
        sets.append(PoisonSet(setup, poisons, bases, test.images[setup.target_index], budget, {}, 0.5, trigger, goal))
    return sets


@pytest.fixture
def run(plan, tmp_path: Path):
    def build(trigger: Trigger | None = None) -> list[PoisonSet]:
        sets = make(plan(), trigger)
        for poisons in sets:
            save_poisons(poisons, tmp_path / "run" / "poisons")
        return sets

    (tmp_path / "run" / "poisons").mkdir(parents=True)
    return build


@pytest.mark.parametrize("kind", ["pickle", "npz"])
@pytest.mark.parametrize("triggered", [False, True])
def test_what_is_exported_comes_back(run, plan, digits, tmp_path: Path, kind: str, triggered: bool) -> None:
    trigger = PatchTrigger(size=6, seed=3).build((1, 32, 32)) if triggered else None
    sets = run(trigger)
    assert export_poisons(tmp_path / "run", tmp_path / "out", kind) == 2
    train, test = digits.split("train"), digits.split("test")
    for old in sets:
        new = import_poisons(tmp_path / "out", old.setup, train.images, test.images, old.budget, old.goal)
        assert torch.equal(new.images, old.images) and torch.equal(new.target, old.target)
        assert new.goal == old.goal
        # The target is tested with the same pixels, whatever the patch's place is derived from.
        row = torch.tensor([old.setup.target_index])
        if trigger is not None:
            assert torch.equal(new.trigger.stamp(old.target[None], row), trigger.stamp(old.target[None], row))


def test_the_benchmark_finds_what_it_expects(run, tmp_path: Path) -> None:
    sets = run()
    export_poisons(tmp_path / "run", tmp_path / "out", "pickle")
    folder = tmp_path / "out" / "000"
    poisons = pickle.loads((folder / "poisons.pickle").read_bytes())
    assert [label for _, label in poisons] == [sets[0].setup.adversarial_label] * 5
    assert poisons[0][0].size == (32, 32) and poisons[0][0].mode == "L"
    assert list(pickle.loads((folder / "base_indices.pickle").read_bytes())) == sets[0].setup.base_indices.tolist()
    image, label = pickle.loads((folder / "target.pickle").read_bytes())[:2]
    assert label == sets[0].setup.target_label and image.size == (32, 32)


def test_an_experiment_takes_imported_poisons_as_its_own(run, plan, tmp_path: Path) -> None:
    sets = run()
    export_poisons(tmp_path / "run", tmp_path / "out", "pickle")
    own = plan(poisons_from=str(tmp_path / "out"))
    assert [torch.equal(a.images, b.images) for a, b in zip(keep_imported(own, own.imported, Ranks()), sets, strict=True)] == [
        True,
        True,
    ]
    assert len(list((own.folder / "poisons").glob("*.json"))) == 2


def test_poisons_of_another_setup_are_refused(run, plan, digits, tmp_path: Path) -> None:
    sets = run()
    export_poisons(tmp_path / "run", tmp_path / "out", "npz")
    other = replace(sets[0].setup, base_indices=sets[0].setup.base_indices[::-1].copy())
    train, test = digits.split("train").images, digits.split("test").images
    with pytest.raises(InputError, match=r"base indices are not the setup's.*--poisons_from"):
        import_poisons(tmp_path / "out", other, train, test, sets[0].budget, "targets")
    with pytest.raises(InputError, match=r"its target is not test image"):
        moved = replace(sets[0].setup, target_index=sets[0].setup.target_index ^ 1)
        import_poisons(tmp_path / "out", moved, train, test, sets[0].budget, "targets")
    with pytest.raises(InputError, match=r"poisons leave the budget"):
        import_poisons(tmp_path / "out", sets[0].setup, train, test, Budget("linf", 2 / 255), "targets")
    with pytest.raises(InputError, match=r"has no trigger.*--attack"):
        import_poisons(tmp_path / "out", sets[0].setup, train, test, sets[0].budget, "source")
    with pytest.raises(InputError, match=r"neither 007/ nor 007.npz.*--poisons_from"):
        import_poisons(tmp_path / "out", replace(sets[0].setup, index=7), train, test, sets[0].budget, "targets")


def test_a_hostile_pickle_is_refused_and_not_run(run, plan, digits, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    sets = run()
    export_poisons(tmp_path / "run", tmp_path / "out", "pickle")
    (tmp_path / "out" / "000" / "target.pickle").write_bytes(pickle.dumps((Evil(), 1)))
    with pytest.raises(InputError, match=r"target.pickle"):
        train, test = digits.split("train").images, digits.split("test").images
        import_poisons(tmp_path / "out", sets[0].setup, train, test, sets[0].budget, "targets")
    assert not (tmp_path / "owned").exists()


def test_four_corners_cannot_be_said_in_one_patch(plan) -> None:
    trigger = Trigger(torch.zeros(1, 3, 3, dtype=torch.uint8), "four_corners")
    with pytest.raises(InputError, match=r"one patch"):
        to_benchmark(make(plan(), trigger)[0])


def test_a_trigger_over_the_whole_image_cannot_be_said_in_a_patch(plan) -> None:
    trigger = AdditiveTrigger(torch.ones(1, 32, 32, dtype=torch.int16), 3.0)
    with pytest.raises(InputError, match=r"one patch.*--run"):
        to_benchmark(make(plan(), trigger)[0])
