import numpy as np
import pytest
import torch
from torch.nn import functional

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Epic, Epoch, Run
from poison_and_defend.defenses.training.epic import isolated, medoids
from poison_and_defend.lightning_modules.classifier import ClassifierModule, fresh_head
from poison_and_defend.lightning_modules.ensemble import EnsembleModule
from poison_and_defend.lightning_modules.member_data import EnsembleData, MemberOrder
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.defenses.training.together import accuracy, assert_equals_alone, build, trained
from tests.lightning_modules.fitting import Few, fit

# Three tight pairs and two far points, as log-probabilities of three classes.
POINTS = torch.tensor(
    [[0.9, 0.05, 0.05], [0.89, 0.06, 0.05], [0.5, 0.45, 0.05], [0.5, 0.44, 0.06], [0.45, 0.05, 0.5], [0.44, 0.06, 0.5],
     [0.02, 0.96, 0.02], [0.02, 0.02, 0.96]]
).log()  # fmt: skip


def look(epic: Epic, logits: torch.Tensor, state, number: int = 0, labels=None, places=None) -> list[list[int]]:
    """Rows that are left of each member after one look."""
    labels = torch.zeros(logits.shape[:2], dtype=torch.int64) if labels is None else labels
    places = torch.arange(logits.shape[1]).expand(len(logits), -1) if places is None else places
    seeds = tuple(range(len(logits)))
    epoch = Epoch(
        number, 8, labels, places, seeds, logits.shape[2], True, lambda rows: logits[:, rows], lambda inputs: inputs, state
    )
    epic.between_epochs(epoch)
    return [own.nonzero()[:, 0].tolist() for own in epic.kept(state)]


def test_of_three_pairs_and_two_far_points_the_two_go_and_stay_gone() -> None:
    epic, order = Epic(share=5 / 8, every=1, start=0), torch.tensor([6, 0, 3, 1, 7, 2, 4, 5])
    logits, state = torch.stack([POINTS, POINTS[order]]), epic.begin(2, 8)
    expected = [[0, 1, 2, 3, 4, 5], [1, 2, 3, 5, 6, 7]]
    assert look(epic, logits, state) == expected
    # Six rows have three medoids: the pairs stay, and what is gone does not come back, wherever it lies now.
    assert look(epic, logits, state, 1) == expected
    assert look(epic, torch.zeros_like(logits), state, 2) == expected


def test_what_is_gone_keeps_nobody_company() -> None:
    epic = Epic(share=5 / 8, every=1, start=0)
    state = epic.begin(1, 8)
    assert look(epic, POINTS[None], state) == [[0, 1, 2, 3, 4, 5]]
    # Now the first pair parts, each to where a row that is gone still lies.
    moved = POINTS[[6, 7, 2, 3, 4, 5, 6, 7]]
    alone = isolated(moved.exp().double().numpy()[:6], 3)
    assert alone.tolist().count(True) == 1
    assert look(epic, moved[None], state, 1) == [[row for row in range(6) if not alone[row]]]


def test_classes_are_looked_at_apart_and_equal_rows_are_not_isolated() -> None:
    epic, labels = Epic(share=5 / 8, every=1, start=0), torch.zeros(1, 10, dtype=torch.int64)
    labels[0, 8:] = 1
    # A class of two rows has one medoid, and of one row only itself: nothing goes.
    logits = torch.cat([POINTS, POINTS[:2] * 3])[None]
    assert look(epic, logits, epic.begin(1, 10), labels=labels) == [[0, 1, 2, 3, 4, 5, 8, 9]]
    labels[0, 8] = 2
    assert look(epic, logits, epic.begin(1, 10), labels=labels) == [[0, 1, 2, 3, 4, 5, 8, 9]]
    assert not isolated(np.tile([[0.3, -0.3]], (6, 1)), 4).any()
    # A far row that the set holds twice goes twice.
    twice = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 6, 7]])
    assert look(epic, POINTS[twice], epic.begin(1, 10), places=twice) == [[0, 1, 2, 3, 4, 5]]


def test_medoids_are_those_of_plain_greedy_search() -> None:
    drawn = np.random.default_rng(0)
    for count in (1, 4, 15):
        points = drawn.normal(size=(40, 5))
        similarity = np.exp(-np.linalg.norm(points[:, None] - points[None], axis=2) / 5)
        expected: list[int] = []
        for _ in range(count):
            values = [similarity[:, [*expected, row]].max(1).sum() for row in range(40)]
            expected.append(int(np.argmax(values)))
        assert medoids(similarity, count) == expected


def test_it_looks_every_so_often_from_the_start_to_the_last_decay() -> None:
    epic = Epic(every=2, start=3)
    assert [number for number in range(10) if epic._looks(number, 10)] == [3, 5, 7]
    assert [number for number in range(10) if Epic(every=1, start=0, until=0.2)._looks(number, 10)] == [0, 1]


def test_what_is_left_fills_an_epoch_of_as_many_steps() -> None:
    order = MemberOrder(7, 3, [4, 9])
    order.kept = torch.tensor([[True] * 7, [True, False, True, True, False, True, True]])
    order.set_epoch(2)
    first, second = torch.cat(list(order), 1)
    plain = MemberOrder(7, 3, [4, 9])
    plain.set_epoch(2)
    assert torch.equal(first, torch.cat(list(plain), 1)[0])
    assert len(second) == 7 and set(second[:5].tolist()) == {0, 2, 3, 5, 6}
    assert torch.equal(second[5:], second[:2]) and [part.shape[1] for part in order] == [3, 3, 1]


def test_a_step_descends_the_rows_that_are_left_alone() -> None:
    """By a loop: a head on features of which some rows are dropped before the only epoch."""
    split, network = Few().split("train"), build("patchnet")(1).eval().requires_grad_(False)
    features, epic = network.features(split.images.float() / 255), Epic(0.5, 1, 0)
    recipe = Recipe(epochs=1, batch_size=24, learning_rate=0.1, momentum=0.0, weight_decay=0.0)
    data = EnsembleData(features, split.labels, torch.arange(48)[None])
    module = fit(EnsembleModule(lambda seed: fresh_head(64, 10, seed), [5], data, recipe, defense=epic), 1)
    kept, head = module.kept_rows()[0], fresh_head(64, 10, 5)
    assert 8 < kept.sum() < 46
    with torch.no_grad():
        gradients = (head(features).softmax(1) - functional.one_hot(split.labels, 10)).double().numpy()
    for label in range(10):
        rows = (split.labels == label).nonzero()[:, 0]
        alone = isolated(gradients[rows], max(1, len(rows) // 2))
        assert kept[rows].tolist() == ([True] * len(rows) if alone.all() else (~alone).tolist())
    left = [row for row in torch.randperm(48, generator=torch.Generator().manual_seed(5)).tolist() if kept[row]]
    filled = (left * 6)[:48]
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for batch in (filled[:24], filled[24:]):
        optimizer.zero_grad()
        functional.cross_entropy(head(features[batch]), split.labels[batch]).backward()
        optimizer.step()
    torch.testing.assert_close(module.member_state(0)["weight"], head.weight.detach(), rtol=1e-4, atol=1e-6)


def test_a_member_equals_one_that_is_trained_alone() -> None:
    epic = Epic(0.5, 1, 1)
    assert_equals_alone(Recipe(epochs=4, batch_size=20, flip=True), epic)
    assert_equals_alone(Recipe(epochs=4, batch_size=48, learning_rate=0.5), epic, heads=True)
    rows = trained([3, 5, 11], Recipe(epochs=4, batch_size=20), epic).kept_rows()
    assert not rows.all(1).any() and len({tuple(own.tolist()) for own in rows}) == 3


def test_digits_are_learned() -> None:
    assert accuracy(Epic(0.2, 2, 4)) > 0.85


def test_a_single_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"epic looks at all rows.*--defenses \[epic\]"):
        ClassifierModule(defense=Epic())


@pytest.mark.parametrize(("option", "value"), [("share", 0.0), ("share", 1.1), ("until", 0.0), ("every", 0), ("start", -1)])
def test_what_is_out_of_range_is_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{option} of EPIC is {value:g}.*--\*.{option}"):
        Epic(**{option: value})


def test_a_training_that_ends_before_anything_is_dropped_is_refused(plan_of) -> None:
    with pytest.raises(InputError, match=r"start of EPIC is 10: it must be below 0.875 of the 2 epochs"):
        plan_of(Epic())
    Epic().check_run(Run(100, 10, 12, False, 10, 1))
