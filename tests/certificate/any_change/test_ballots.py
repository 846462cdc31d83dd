"""Verdicts against attacks that reach exactly as far as they say, and one image further."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from poison_and_defend.certificate.any_change.ballots import Electorate, Rule

CLASSES = 3


def electorate(n: int = 60, trusted: int = 0, seed: int = 0) -> tuple[Electorate, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, 6, generator=generator)

    def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % CLASSES
        return torch.nn.functional.normalize(centres[labels] + 0.9 * torch.randn(count, 6, generator=generator), dim=1), labels

    (places, labels), known, (tested, truth) = rows(n), rows(trusted), rows(40)
    return Electorate(places, labels, known, CLASSES, 5, 20), tested, truth


RULES = [
    Rule("neighbours", radius=0.3),
    Rule("neighbours", radius=0.3, weight=0.4),
    Rule("kernel", radius=0.3, width=0.1),
    Rule("kernel", radius=0.3, width=0.1, weight=0.4),
    Rule("partition", m=5),
    Rule("run_off", m=5),
    Rule("aggregation", m=6, spread=3),
    Rule("hybrid", m=5),
]


def told(rule: Rule) -> str:
    return "-".join(str(value) for value in rule.to_json().values())


@pytest.mark.parametrize("rule", RULES, ids=told)
def test_no_attack_within_the_number_changes_an_answer(rule: Rule) -> None:
    """Rows that matter most turn into the test image itself or its opposite; and rows at random."""
    votes, tested, _ = electorate(trusted=9)
    generator = np.random.default_rng(0)
    verdict = votes.judge([rule], tested)[rule]
    assert verdict.poisons.max() >= 2
    for image in range(0, 40, 3):
        k, answer = int(verdict.poisons[image]), verdict.labels[image]
        if k == 0:
            continue
        likeness = (tested[image] @ votes.places.T).numpy()
        own = np.flatnonzero(votes.labels.numpy() == answer)
        for rival in (c for c in range(CLASSES) if c != answer):
            theirs = np.flatnonzero(votes.labels.numpy() == rival)
            chosen = [
                own[np.argsort(-likeness[own])][:k],
                theirs[np.argsort(likeness[theirs])][:k],
                generator.choice(60, k, replace=False),
                np.concatenate([own[np.argsort(-likeness[own])][: k // 2], theirs[np.argsort(likeness[theirs])][: k - k // 2]]),
            ]
            for rows in chosen:
                places = votes.places.clone()
                towards = votes.labels[rows] == rival
                places[rows] = torch.where(towards[:, None], tested[image], -tested[image])
                attacked = replace(votes, places=places).judge([rule], tested[image : image + 1])[rule]
                assert attacked.labels[0] == answer


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_one_poison_more_changes_the_answer_of_neighbours(weight: float) -> None:
    rule = Rule("neighbours", radius=0.3, weight=weight)
    votes, tested, _ = electorate(trusted=9)
    verdict = votes.judge([rule], tested)[rule]
    changed = 0
    for image in range(40):
        k, answer, fooled = int(verdict.poisons[image]) + 1, verdict.labels[image], False
        likeness = (tested[image] @ votes.places.T).numpy()
        for rival in (c for c in range(CLASSES) if c != answer):
            near = np.flatnonzero((votes.labels.numpy() == answer) & (likeness > 0.3))
            far = np.flatnonzero((votes.labels.numpy() == rival) & (likeness <= 0.3))
            rows = np.concatenate([near, far])[:k]
            places = votes.places.clone()
            places[rows] = torch.where((votes.labels[rows] == rival)[:, None], tested[image], -tested[image])
            fooled |= replace(votes, places=places).judge([rule], tested[image : image + 1])[rule].labels[0] != answer
        changed += fooled
    assert changed == 40


@pytest.mark.parametrize("rule", [Rule("neighbours", radius=0.3), Rule("kernel", radius=0.3, width=0.1)], ids=told)
def test_changed_labels_are_counted_where_they_are_allowed(rule: Rule) -> None:
    votes, tested, _ = electorate()
    verdict = votes.judge([rule], tested)[rule]
    assert (verdict.relabelled <= verdict.poisons).all() and (verdict.relabelled < verdict.poisons).any()
    for image in np.flatnonzero(verdict.relabelled >= 1)[:12]:
        k, answer = int(verdict.relabelled[image]), int(verdict.labels[image])
        likeness = (tested[image] @ votes.places.T).numpy()
        own = np.flatnonzero(votes.labels.numpy() == answer)
        rows = own[np.argsort(-likeness[own])][:k]
        for rival in (c for c in range(CLASSES) if c != answer):
            places, labels = votes.places.clone(), votes.labels.clone()
            places[rows], labels[rows] = tested[image], rival
            assert (
                replace(votes, places=places, labels=labels).judge([rule], tested[image : image + 1])[rule].labels[0] == answer
            )


def test_trusted_rows_alone_cannot_be_poisoned_and_heavy_ones_decide() -> None:
    votes, tested, truth = electorate(trusted=30)
    alone, heavy = Rule("trusted"), Rule("neighbours", radius=0.3, weight=1e5)
    found = votes.judge([alone, heavy], tested)
    assert (found[alone].poisons == 60).all() and (found[alone].labels == truth.numpy()).mean() > 0.7
    assert (found[heavy].labels == found[alone].labels).all() and np.median(found[heavy].poisons) > 60


def test_blocks_and_company_do_not_matter() -> None:
    votes, tested, _ = electorate(n=300, trusted=9)
    many = tested.repeat(5, 1)
    together = votes.judge(RULES, many)
    for rule in RULES:
        alone = replace(votes).judge([rule], tested)[rule]
        for own, other in zip(together[rule], alone, strict=True):
            assert (own[:40] == other).all() and (own[160:] == other).all()


def test_a_rule_is_told_by_what_it_has() -> None:
    assert Rule("partition", m=5).to_json() == {"family": "partition", "m": 5}
    assert Rule("neighbours", radius=0.1234567).to_json() == {"family": "neighbours", "radius": 0.123457}
