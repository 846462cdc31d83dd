from types import SimpleNamespace

import numpy as np
import pytest
import torch

from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.trigger import Trigger
from poison_and_defend.callbacks.ensemble_scores import EnsembleScores, Score, Watch, evaluate
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses import Voting

LABELS = torch.tensor([0, 1, 1, 2, 2, 2])


class Recorded:
    """Members whose predictions are written down: the inputs are row numbers, triggered ones count from 10,000."""

    device = torch.device("cpu")

    def __init__(self, clean: list[list[int]], triggered: list[list[int]]) -> None:
        self.clean, self.triggered = torch.tensor(clean), torch.tensor(triggered)
        self.asked: list[list[int]] = []

    def member_predictions(self, inputs: torch.Tensor, change=None) -> torch.Tensor:
        own = [inputs if change is None else change(m, inputs, torch.arange(len(inputs))) for m in range(len(self.clean))]
        self.asked.append(own[0].tolist())
        return torch.stack([self._of(member, seen) for member, seen in enumerate(own)])

    def _of(self, member: int, seen: torch.Tensor) -> torch.Tensor:
        return torch.tensor([int((self.triggered if row >= 10_000 else self.clean)[member, row % 10_000]) for row in seen])


def poisons(goal: str, more: tuple[int, ...] = ()) -> PoisonSet:
    setup = Setup(4, 0, 1, 1, 2, np.array([0]), None, more)
    images = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    trigger = None if goal == "targets" else Trigger(torch.zeros(1, 2, 2, dtype=torch.uint8), "bottom_right")
    return PoisonSet(setup, images, images, images[0], Budget("linf", 0.1), {}, 0.0, trigger, goal)


def score(own: PoisonSet, clean: list[int], triggered: list[int]):
    inputs = torch.arange(6)
    watch = Watch([(4, "none")], [own], inputs, None if own.trigger is None else inputs + 10_000, LABELS)
    module: SimpleNamespace = Recorded([clean], [triggered])  # type: ignore[assignment]
    return evaluate(module, watch)[0]  # type: ignore[arg-type]


def test_a_target_is_one_trial_and_success_means_the_wanted_class() -> None:
    hit = score(poisons("targets"), [0, 2, 1, 2, 2, 0], [])
    assert (hit.success, hit.predicted, hit.successes, hit.trials) == (True, 2, 1, 1)
    assert hit.clean_accuracy == np.float32(4 / 6) and hit.source_accuracy == 0.5
    # Misread, but not as the attacker wants.
    miss = score(poisons("targets"), [0, 0, 1, 2, 2, 2], [])
    assert (miss.success, miss.predicted, miss.successes) == (False, 0, 0)


def test_several_targets_are_counted_apart_from_the_first() -> None:
    found = score(poisons("targets", more=(2,)), [0, 1, 2, 2, 2, 2], [])
    assert (found.success, found.successes, found.trials) == (False, 1, 2)


def test_a_backdoor_is_counted_over_triggered_source_images_and_accuracy_over_clean_ones() -> None:
    found = score(poisons("source"), [0, 1, 1, 2, 2, 2], [2, 1, 2, 2, 2, 2])
    assert (found.success, found.predicted, found.successes, found.trials) == (False, 1, 1, 2)
    assert found.clean_accuracy == found.source_accuracy == 1


def test_an_all_to_one_backdoor_leaves_out_the_adversarial_class() -> None:
    found = score(poisons("others"), [0, 1, 1, 2, 2, 2], [2, 2, 1, 2, 2, 2])
    assert (found.successes, found.trials, found.success) == (2, 3, True)


class Counted(Voting):
    """The first model's answer, said to withstand what is written down for each image."""

    name = "counted"

    def __init__(self, held: list[int]) -> None:
        self.held = held

    def parts(self, keys, labels, num_classes):
        raise AssertionError

    def decide(self, votes, num_classes):
        return votes[0]

    def withstands(self, votes, num_classes, rows):
        return torch.tensor(self.held)


def voted(held: list[int], times: int = 1) -> list[Score]:
    """Scores of one victim of two models, after as many epochs as there are times."""
    own, inputs = poisons("targets"), torch.arange(6)
    watch = Watch([(4, "vote")] * 2, [own] * 2, inputs, None, LABELS, [1, 0], Counted(held), 3)
    module = Recorded([[0, 0, 0, 0, 0, 0], [0, 1, 1, 2, 2, 0]], [])
    module.log_dict = lambda *_, **__: None
    callback = EnsembleScores(watch, Ranks(), times)
    callback.on_train_epoch_end(SimpleNamespace(max_epochs=1, current_epoch=0), module)
    return callback.scores


def test_a_vote_is_one_victim_whose_models_are_asked_in_their_order() -> None:
    (found,) = voted([7, 1, 2, 5, 24, 25])
    # Model 0 is the second that was trained; its last answer is wrong.
    assert (found.setup, found.defense, found.models, found.withstands) == (4, "vote", 2, 1)
    assert found.clean_accuracy == np.float32(5 / 6) and found.predicted == 1


def test_certified_shares_are_of_right_answers_that_stand_so_many_changes() -> None:
    (found,) = voted([7, 1, 2, 5, 24, 25])
    assert found.certified == {"1": round(5 / 6, 6), "2": round(4 / 6, 6), "5": 0.5, "10": round(1 / 6, 6), "25": 0.0}
    (found,) = voted([25, 10, 0, 0, 0, 25])
    assert found.certified == {
        "1": round(2 / 6, 6),
        "2": round(2 / 6, 6),
        "5": round(2 / 6, 6),
        "10": round(2 / 6, 6),
        "25": round(1 / 6, 6),
    }


def test_victims_are_watched_as_often_as_asked_and_after_the_last_epoch() -> None:
    own, inputs = poisons("targets"), torch.arange(6)
    watch = Watch([(4, "none"), (5, "none")], [own] * 2, inputs, None, LABELS)
    module = Recorded([[0, 1, 1, 2, 2, 2], [0, 2, 1, 2, 2, 0]], [])
    for epochs, times, expected in ((11, 5, [2, 4, 6, 8, 10, 11]), (3, 5, [1, 2, 3]), (10, 2, [5, 10]), (4, 1, [4])):
        seen, logged = [], []
        module.log_dict = lambda values, logged=logged, **_: logged.append(values)
        callback = EnsembleScores(watch, Ranks(), times)
        for epoch in range(epochs):
            callback.on_train_epoch_end(SimpleNamespace(max_epochs=epochs, current_epoch=epoch), module)
            if len(logged) > len(seen):
                seen.append(epoch + 1)
        assert seen == expected
        assert [score.setup for score in callback.scores] == [4, 5]
        assert logged[0]["target_misclassification/none"] == 0.5
        assert logged[0]["test_accuracy/none"] == pytest.approx((1 + 4 / 6) / 2)


def test_before_the_end_a_part_of_the_test_images_is_asked_and_every_trial() -> None:
    labels = torch.arange(2500) // 500
    own = two_targets()
    clean = torch.where(torch.arange(2500) < 1250, labels, 4).tolist()
    module = Recorded([clean], [])
    module.log_dict = lambda *_, **__: None
    watch = Watch([(4, "none")], [own], torch.arange(2500), None, labels)
    callback = EnsembleScores(watch, Ranks(), 2)
    for epoch, asked in ((0, list(range(0, 2500, 3))), (1, list(range(2500)))):
        callback.on_train_epoch_end(SimpleNamespace(max_epochs=2, current_epoch=epoch), module)
        assert module.asked == [asked, [501, 501, 502]]
        (found,) = callback.scores
        assert found.clean_accuracy == pytest.approx(0.7, abs=1e-3) and found.trials == 2
        module.asked.clear()
    assert found.clean_accuracy == np.float32(1750 / 2500)


def two_targets() -> PoisonSet:
    setup = Setup(4, 0, 501, 1, 2, np.array([0]), None, (502,))
    images = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    return PoisonSet(setup, images, images, images[0], Budget("linf", 0.1), {}, 0.0, None, "targets")


def test_a_vote_is_asked_after_the_last_epoch_alone() -> None:
    own, inputs = poisons("targets"), torch.arange(6)
    watch = Watch([(4, "vote")] * 2, [own] * 2, inputs, None, LABELS, [1, 0], Counted([7, 1, 2, 5, 24, 25]), 3)
    module = Recorded([[0, 0, 0, 0, 0, 0], [0, 1, 1, 2, 2, 0]], [])
    module.log_dict = lambda *_, **__: None
    callback = EnsembleScores(watch, Ranks(), 5)
    for epoch in range(4):
        assert not callback.scores
        callback.on_train_epoch_end(SimpleNamespace(max_epochs=4, current_epoch=epoch), module)
    assert len(module.asked) == 2 and callback.scores[0].withstands == 1


def test_members_with_triggers_are_asked_about_their_own_trials_only() -> None:
    few, many = poisons("source"), poisons("others")
    inputs = torch.arange(6)
    watch = Watch([(4, "none"), (5, "none")], [few, many], inputs, inputs + 10_000, LABELS)
    module = Recorded([LABELS.tolist()] * 2, [[9, 2, 2, 9, 9, 9], [2, 1, 2, 9, 9, 9]])
    first, second = evaluate(module, watch)
    assert (first.successes, first.trials, first.success) == (2, 2, True)
    assert (second.successes, second.trials, second.success) == (2, 3, False)
    assert module.asked[1][:3] == [10_001, 10_001, 10_002]


def test_what_a_recipe_dropped_is_told_of_poisons_and_of_other_rows() -> None:
    own, inputs = poisons("targets"), torch.arange(6)
    poisoned = [torch.tensor([True, False, False, True]), torch.tensor([False, False, False])]
    watch = Watch([(4, "none"), (5, "none")], [own] * 2, inputs, None, LABELS, poisoned=poisoned)
    module = Recorded([[0, 1, 1, 2, 2, 2]] * 2, [])
    # The second set is shorter, and its first row comes again.
    module.kept_rows = lambda: torch.tensor([[False, True, False, True], [False, True, True, False]])
    found = [(score.poisons_dropped, score.clean_dropped) for score in evaluate(module, watch)]
    assert found == [(0.5, 0.5), (None, 0.333333)]
    module.kept_rows = lambda: None
    assert [score.clean_dropped for score in evaluate(module, watch)] == [None, None]
