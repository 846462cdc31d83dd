"""Computing features, choosing votes on the reference, and counting what they withstand on the received set."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from poison_and_defend.certificate.any_change.ballots import Electorate, Rule, Verdict
from poison_and_defend.certificate.any_change.features import FeatureStore
from poison_and_defend.certificate.any_change.plan import AnyChangePlan
from poison_and_defend.certificate.any_change.planner import Choice, choose, prescribed, share_certified
from poison_and_defend.certificate.any_change.reference import Reference
from poison_and_defend.core.files import make_folder, save_arrays, sweep_partials, write_bytes, write_json
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress, announce
from poison_and_defend.reports.any_change.records import AnyChange, Vote
from poison_and_defend.reports.any_change.table import print_any_change
from poison_and_defend.reports.any_change.write import write_any_change_report
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.training.launch import Launch


def certify_any_change(plan: AnyChangePlan, launch: Launch, config: str) -> Path:
    """Write ``any_change.json``, ``verdicts.npz``, a figure and the page.

    Args:
        plan: What is certified.
        launch: On which ranks, which share the features.
        config: Resolved configuration as YAML, kept with the results.

    Returns:
        The folder of the results.

    Raises:
        InputError: If the folder cannot be written.
    """
    started = time.perf_counter()
    make_folder(plan.features.parent, "--output_dir")
    ranks = launch.start()
    store = FeatureStore(plan.networks, plan.data.mean, plan.data.std, plan.features, ranks)
    labels = plan.reference.labels if plan.labelled else None
    reference = Reference.of(store.of(plan.reference.images, "reference"), labels, plan.seed)
    received = store.of(plan.train.images, "training images")[plan.rows]
    trusted = store.of(plan.trusted.images, "trusted images") if len(plan.trusted) else received[:0]
    tested = store.of(plan.tested.images, "test images")
    if ranks.rank == 0:
        make_folder(plan.folder, "--output_dir")
        write_bytes(plan.folder / "config.yaml", config.encode())
        _Job(plan, reference, received, trusted, tested, started).run(ranks)
        announce(f"report: {plan.folder / 'report.html'}   ({time.perf_counter() - started:.0f} s)", ranks)
    ranks.barrier("counted")
    return plan.folder


@dataclass(frozen=True, eq=False)
class _Job:
    """What one rank does once all features are there."""

    plan: AnyChangePlan
    reference: Reference
    received: Tensor
    trusted: Tensor
    tested: Tensor
    started: float

    def run(self, ranks: Ranks) -> None:
        plan = self.plan
        choice = self._chosen()
        rules = list(dict.fromkeys(rule for own in choice.values() for rule, _ in own))
        verdicts = self._judged(rules, choice)
        result = AnyChange(
            dataset=plan.data.name,
            certified=not plan.void,
            void=plan.void,
            received=len(plan.rows),
            trusted=len(plan.trusted),
            test_images=len(plan.tested),
            classes=plan.data.num_classes,
            features=int(self.received.shape[1]),
            labelled=plan.labelled,
            k=plan.k,
            votes=[self._vote(name, own, verdicts) for name, own in choice.items()],
            ingredients=[asdict(ingredient) for ingredient in plan.ingredients],
            wall_seconds=round(time.perf_counter() - self.started, 1),
            provenance=provenance(str(ranks.device), ranks.world),
        )
        write_json(plan.folder / "any_change.json", result.to_json())
        save_arrays(plan.folder / "verdicts.npz", self._arrays(rules, verdicts))
        write_any_change_report(plan.folder)
        for place in (plan.folder, plan.features):
            sweep_partials(place)
        print_any_change(result)

    def _chosen(self) -> Choice:
        plan, n, classes = self.plan, len(self.plan.rows), self.plan.data.num_classes
        if not plan.labelled:
            return prescribed(self.reference, plan.asked, plan.k, n, classes, len(plan.trusted))
        with StoreProgress("choose votes on the reference") as bar:
            return choose(self.reference, plan.asked, plan.k, n / classes, len(plan.trusted), plan.seed, bar)

    def _judged(self, rules: list[Rule], choice: Choice) -> dict[Rule, Verdict]:
        plan, space = self.plan, self.reference.space
        # As many poisons as any kernel was chosen for.
        limit = max([k for own in choice.values() for k, (rule, _) in zip(plan.k, own, strict=True) if rule.width] or [1])
        trusted = space.place(self.trusted), plan.trusted.labels
        labels = plan.train.labels[plan.rows]
        votes = Electorate(space.place(self.received), labels, trusted, plan.data.num_classes, plan.seed, limit)
        with StoreProgress(f"{len(rules)} votes on test images") as bar:
            return votes.judge(rules, space.place(self.tested), bar)

    def _vote(self, name: str, chosen: list[tuple[Rule, float | None]], verdicts: dict[Rule, Verdict]) -> Vote:
        plan, labels = self.plan, self.plan.tested.labels
        pairs = [(k, rule, verdicts[rule]) for k, (rule, _) in zip(plan.k, chosen, strict=True)]
        return Vote(
            name=name,
            rules=[rule.to_json() for _, rule, _ in pairs],
            accuracy=[float(np.mean(verdict.labels == labels.numpy())) for _, _, verdict in pairs],
            certified=[share_certified(verdict.labels, verdict.poisons, labels, k) for k, _, verdict in pairs],
            with_labels=[share_certified(verdict.labels, verdict.relabelled, labels, k) for k, _, verdict in pairs],
            foretold=[share for _, share in chosen],
        )

    def _arrays(self, rules: list[Rule], verdicts: dict[Rule, Verdict]) -> dict[str, NDArray[Any]]:
        """Answers and poisons withstood, a row a vote, and the true labels."""
        return {
            "labels": self.plan.tested.labels.numpy().astype(np.uint16),
            "answers": np.stack([verdicts[rule].labels for rule in rules]).astype(np.uint16),
            "poisons": np.stack([verdicts[rule].poisons for rule in rules]).astype(np.int32),
            "relabelled": np.stack([verdicts[rule].relabelled for rule in rules]).astype(np.int32),
        }
