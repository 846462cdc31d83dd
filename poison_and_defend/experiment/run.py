"""The whole story: craft, train undefended, sanitize, train, compare, report. Run again, it resumes."""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from PIL import Image

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.callbacks.wandb_logging import finish, log_images, make_logger
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder, sweep_partials, write_bytes, write_json
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import announce
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.experiment.steps.craft import craft_poisons, keep_imported
from poison_and_defend.experiment.steps.feature_space import save_tested
from poison_and_defend.experiment.steps.pictures import picture_panel
from poison_and_defend.experiment.steps.protect import Sanitized, sanitize_all
from poison_and_defend.experiment.steps.surrogates import attacker_models, class_models
from poison_and_defend.experiment.steps.victims import ArmScores, train_victims
from poison_and_defend.experiment.task.claim import claim
from poison_and_defend.experiment.task.kept_arms import KeptArms
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.experiment.task.results import make_results
from poison_and_defend.reports.experiment.table import print_classes, print_summary, print_workings
from poison_and_defend.reports.experiment.workings import workings
from poison_and_defend.reports.experiment.write import write_report
from poison_and_defend.reports.figures import contact_sheet
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.reports.records import Result, write_results
from poison_and_defend.reports.summary import write_summary
from poison_and_defend.training.launch import Launch

Until = Literal["craft", "report"]
_Found = dict[tuple[str, str], list[Result] | None]


def run(plan: ExperimentPlan, launch: Launch, config: str, *, until: Until = "report") -> Path:
    """Run an experiment, or what is missing of it.

    Args:
        plan: What is measured.
        launch: On which ranks.
        config: Resolved configuration as YAML, kept with the results.
        until: ``craft`` stops once the poisons are there; ``report`` goes to the end.

    Returns:
        The experiment's folder.

    Raises:
        InputError: If the folder holds an experiment with other settings, or there are more ranks than images.
    """
    started = time.perf_counter()
    make_folder(plan.shared, "--output_dir")
    make_folder(plan.folder, "--output_dir")
    claim(plan.folder, dict(plan.settings))
    ranks = launch.start()
    if len(plan.rows) < ranks.world:
        raise InputError(f"{len(plan.rows)} images cannot be shared by {ranks.world} ranks (--trainer.devices)")
    job = _Job(plan, ranks, config)
    job.keep_configuration()
    if until == "craft":
        poison_sets = job.craft()
        announce(f"poisons of {len(poison_sets)} setups are in {plan.folder / 'poisons'}", ranks)
        return plan.folder
    job.report(job.results(), started)
    return plan.folder


@dataclass(frozen=True, eq=False)
class _Job:
    """The steps of one experiment on this launch's ranks, each of which finds what an earlier run left."""

    plan: ExperimentPlan
    ranks: Ranks
    config: str

    @property
    def _first(self) -> bool:
        return self.ranks.rank == 0

    @property
    def _kept(self) -> Path:
        return self.plan.folder / "results.jsonl"

    def keep_configuration(self) -> None:
        """What made the numbers stays beside them: a run that computes nothing leaves it as it is."""
        kept = KeptArms(self.plan)
        there = [kept.path(arm, victim).exists() for victim in self.plan.victims for arm in self.plan.arms]
        if self._first and not all(there):
            write_bytes(self.plan.folder / "config.yaml", self.config.encode())
        self.ranks.barrier("configuration kept")

    def results(self) -> list[Result]:
        """On every rank: arms that are there are read, all others crafted for, rewritten, judged, trained and tested."""
        plan, kept = self.plan, KeptArms(self.plan)
        found: _Found = {(victim, arm.name): kept.read(arm, victim) for victim in plan.victims for arm in plan.arms.values()}
        missing: dict[tuple[str, str], Arm] = {key: plan.arms[key[1]] for key, results in found.items() if results is None}
        # All ranks must have looked before one of them writes.
        self.ranks.barrier("arms counted")
        if not missing:
            announce(f"{plan.folder} is complete; nothing is done twice", self.ranks)
        else:
            names = list(dict.fromkeys(arm.name for arm in missing.values()))
            if len(names) < len(plan.arms):
                announce(f"arms that are missing: {', '.join(names)}; the others are kept", self.ranks)
            poison_sets = self.craft()
            if any(plan.arms[name].rewriters for name in names):
                # Those that are kept lie in their stores, and belong into the picture.
                names = list(plan.arms)
            sanitized = self.sanitize(poison_sets, names)
            found |= self.train(poison_sets, sanitized, missing)
        return [result for victim in plan.victims for result in self._in_order(victim, found, kept)]

    def _in_order(self, victim: str, found: _Found, kept: KeptArms) -> list[Result]:
        """One architecture's results, setup by setup, of arms that are asked for and then of those kept from before."""
        columns = [found[victim, name] or [] for name in self.plan.arms] + list(kept.others(victim).values())
        return [result for row in zip(*columns, strict=True) for result in row]

    def craft(self) -> list[PoisonSet]:
        plan, ranks = self.plan, self.ranks
        logger = self._logger("craft")
        if plan.imported is not None:
            poison_sets = keep_imported(plan, plan.imported, ranks)
        else:
            models = attacker_models if plan.class_networks is None else class_models
            poison_sets = craft_poisons(plan, models(plan, ranks, logger), ranks)
        if self._first:
            if logger is not None:
                columns = ["setup", "target_index", "target_label", "adversarial_label", "objective"]
                logger.log_table("poisons", columns, [[p.to_record()[c] for c in columns] for p in poison_sets])
            test = plan.data.split("test")
            sheets = [contact_sheet(p, p.tested_images(test.images, test.labels)) for p in poison_sets[:4]]
            log_images(logger, "base_poison_difference", sheets, [f"setup {p.setup.index}" for p in poison_sets[:4]])
            finish(logger)
            save_tested(plan, poison_sets)
        return poison_sets

    def sanitize(self, poison_sets: list[PoisonSet], names: list[str]) -> dict[str, Sanitized]:
        plan = self.plan
        sanitized = sanitize_all(plan, poison_sets, self.ranks, names)
        complete = self._first and len(sanitized) == len(plan.arms)
        picture = picture_panel(plan, poison_sets, sanitized) if complete else None
        if picture is not None:
            logger = self._logger("sanitize")
            name, image = picture
            (plan.folder / "figures").mkdir(exist_ok=True)
            write_bytes(plan.folder / "figures" / f"{name}.png", image)
            if logger is not None:
                log_images(logger, name, [Image.open(io.BytesIO(image))], ["base, poison, noised, denoised"])
            finish(logger)
        return sanitized

    def train(
        self, poison_sets: list[PoisonSet], sanitized: dict[str, Sanitized], missing: Mapping[tuple[str, str], Arm]
    ) -> _Found:
        """Results of the missing arms, by architecture and name; each is kept as soon as it is there."""
        plan, logger, kept = self.plan, self._logger("train"), KeptArms(self.plan)
        if self._first:
            write_json(plan.folder / "provenance.json", provenance(str(self.ranks.device), self.ranks.world))
        found: dict[tuple[str, str], list[Result] | None] = {}
        for victim in plan.victims:
            arms = [arm for (wanted, _), arm in missing.items() if wanted == victim]

            def keep(one: ArmScores, victim: str = victim) -> None:
                dropped = [judgement.shares() for judgement in one.judgements]
                results = make_results(plan, victim, one.arm, poison_sets, one.scores, dropped, one.seconds)
                found[victim, one.arm.name] = results
                if self._first:
                    kept.save(one.arm, victim, results)

            if arms:
                train_victims(plan, victim, poison_sets, arms, sanitized, self.ranks, logger, keep)
        if logger is not None:
            lines = [result.to_json() for results in found.values() for result in results or []]
            # A line leaves out what its arm has nothing to say of.
            columns = list(dict.fromkeys(name for line in lines for name in line))
            logger.log_table("victims", columns=columns, data=[[line.get(name) for name in columns] for line in lines])
            finish(logger)
        return found

    def report(self, results: list[Result], started: float) -> None:
        plan = self.plan
        if self._first:
            write_results(self._kept, results)
            summary = write_summary(plan.folder / "summary.json", results)
            page = write_report(plan.folder)
            print_summary(summary, f"{plan.name}: {summary[0].n} setups, test accuracy is on clean images")
            print_classes(results)
            print_workings(workings(results))
            # Of processes that were killed here, or beside it where networks and sanitized images are shared.
            for place in (plan.folder, plan.models, plan.stores):
                sweep_partials(place)
            announce(f"report: {page}   ({time.perf_counter() - started:.0f} s)", self.ranks)
        self.ranks.barrier("reported")

    def _logger(self, job_type: str) -> Any:
        """A run of W&B for one step, on the first rank."""
        plan = self.plan
        if not self._first:
            return None
        return make_logger(plan.wandb_project, plan.name, job_type, plan.folder, yaml.safe_load(self.config))
