"""Training the voters of a certificate with all ranks and jobs, and saying what their vote withstands."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poison_and_defend.certificate.challenge import challenge
from poison_and_defend.certificate.claims import best_of, evaluate, forecast
from poison_and_defend.certificate.looks import Look, Register
from poison_and_defend.certificate.models import CertifyModels
from poison_and_defend.certificate.plan import CertificatePlan
from poison_and_defend.certificate.publish import publish
from poison_and_defend.certificate.secret import Randomness, settle_randomness
from poison_and_defend.certificate.setting import Setting
from poison_and_defend.certificate.vote_store import Marks, VoteStore, fill
from poison_and_defend.certificate.voters import MOST_MEMBERS, Voters, member_seed
from poison_and_defend.core.files import digest, make_folder, sweep_partials, write_bytes, write_json
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress, announce
from poison_and_defend.core.reading.files import guarded, read_json
from poison_and_defend.reports.certificate.records import Certificate, Certified, Forecast
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.training.launch import Launch


def certify(plan: CertificatePlan, launch: Launch, config: str) -> Path:
    """Train what is missing of the voters, then write ``certificate.json``, one ``.npz`` a setting, figures and the page.

    Args:
        plan: What is certified.
        launch: On which ranks; other jobs may work on the same folder at the same time.
        config: Resolved configuration as YAML, kept with the results.

    Returns:
        The folder of the results.

    Raises:
        InputError: If the folder cannot be written, or holds votes of other models.
    """
    started = time.perf_counter()
    make_folder(plan.shared, "--output_dir")
    ranks = launch.start()
    if ranks.rank == 0:
        make_folder(plan.folder, "--output_dir")
        write_bytes(plan.folder / "config.yaml", config.encode())
    ranks.barrier("folder made")
    randomness = settle_randomness(plan.folder, plan.noise_seed, ranks)
    job = _Job(plan, CertifyModels(plan, randomness, ranks), ranks)
    settings, forecasts = job.choose()
    found = [job.certify(setting, len(settings)) for setting in settings]
    plain = [job.certify(setting, len(plan.bagging)) for setting in plan.bagging]
    if ranks.rank == 0:
        certified = [own for own, _ in found]
        seconds = time.perf_counter() - started
        bagging = [own for own, _ in plain]
        certificate = _certificate(plan, randomness, certified, bagging, forecasts, ranks, seconds)
        publish(plan, certificate, {own.name: arrays for own, arrays in found + plain}, config)
        for place in (plan.folder, plan.models_folder, plan.stores):
            # Of processes that were killed here, or where networks and sanitized images are shared.
            sweep_partials(place)
        announce(f"report: {plan.folder / 'report.html'}   ({time.perf_counter() - started:.0f} s)", ranks)
    ranks.barrier("certified")
    return plan.folder


def _certificate(
    plan: CertificatePlan,
    randomness: Randomness,
    settings: list[Certified],
    bagging: list[Certified],
    forecasts: list[Forecast],
    ranks: Ranks,
    seconds: float,
) -> Certificate:
    return Certificate(
        dataset=plan.data.name,
        certified=not plan.void,
        void=plan.void,
        alpha=plan.vote.alpha,
        norm=plan.norm,
        k=plan.k,
        eps=[str(eps) for eps in plan.eps],
        radii=[r if np.isfinite(r) else None for r in plan.radii.tolist()],
        image_shape=list(plan.data.image_shape),
        learner=plan.learner.learner,
        warm_start=plan.trust.warm_start,
        defense=plan.learner.defense,
        randomness=randomness.told,
        ingredients=[vars(ingredient) for ingredient in plan.ingredients],
        settings=settings,
        best=best_of(settings),
        forecasts=forecasts,
        goal={"k": plan.attacker.k, "eps": str(plan.attacker.eps)},
        wall_seconds=round(seconds, 1),
        provenance=provenance(str(ranks.device), ranks.world),
        rivals=plan.vote.rivals,
        bagging=bagging,
        test_sigma=plan.test_sigma,
        trigger=str(plan.trigger_told) if plan.trigger else "",
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """The steps of one certificate on this launch's ranks."""

    plan: CertificatePlan
    models: CertifyModels
    ranks: Ranks

    def choose(self) -> tuple[Sequence[Setting], list[Forecast]]:
        """The settings to certify: all, or the one that pilots foretell most of; and what they foretell."""
        plan = self.plan
        if not plan.pilot or len(plan.settings) < 2:
            return plan.settings, []
        forecasts = [self._pilot(setting) for setting in plan.settings]
        chosen = plan.settings[int(np.argmax([f.expected[f.models.index(plan.vote.models)] for f in forecasts]))]
        announce(f"pilots choose {chosen.name} for {plan.attacker.k} poisons of {plan.attacker.eps}", self.ranks)
        return [chosen], forecasts

    def certify(self, setting: Setting, count: int) -> tuple[Certified, dict[str, Any]]:
        """What the vote of one of ``count`` settings withstands, and its arrays; its voters are trained where missing."""
        plan, ranks = self.plan, self.ranks
        total, started = plan.vote.selection + plan.vote.models, time.perf_counter()
        voters, made_with = self.models.voters(setting)
        store = self._store("votes", setting, made_with)
        missing = total - store.done(0, total)
        if missing:
            _estimate(voters, missing, setting, ranks)
        text = f"{total} voters, {setting.record.short}, {setting.drawn:.0f} images each"
        self._train(store, voters, range(total), plan.speed.members_per_block, text)
        ranks.barrier("voted")
        votes = store.read(0, total)
        seconds = round(time.perf_counter() - started, 1)
        alone = self.models.trusted_accuracy(setting)
        certified, arrays = evaluate(plan, setting, votes, count)
        if ranks.rank == 0:
            looks = self._noted(store, total)
            tried = challenge(plan, setting, self.models, votes) if plan.attacker.targets and setting.sigma else None
            told: dict[str, Any] = {"trusted_alone": alone, "looks": len(looks), "level": sum(looks)}
            certified = replace(certified, **told, seconds=seconds, challenge=tried)
        return certified, arrays

    def _noted(self, store: VoteStore, total: int) -> list[float]:
        """Levels of all claims that were made of this received set's votes, this one among them."""
        plan, made = self.plan, store.settings
        register = Register.of(plan.shared, {name: made[name] for name in ("train", "labels", "test")})
        rule = f"{plan.vote.rivals}, {plan.vote.selection} select"
        return [look.level for look in register.note(Look(digest(made), total, rule, plan.vote.alpha))]

    def _pilot(self, setting: Setting) -> Forecast:
        """A forecast from voters that are counted from the other end, so that no certificate ever contains them."""
        plan, ranks = self.plan, self.ranks
        voters, made_with = self.models.voters(setting)
        store = self._store("pilots", setting, made_with)
        started, first = time.perf_counter(), MOST_MEMBERS - plan.pilot
        missing = plan.pilot - store.done(first, MOST_MEMBERS)
        block = min(plan.speed.members_per_block, plan.pilot)
        self._train(store, voters, range(first, MOST_MEMBERS), block, f"{plan.pilot} pilots of {setting.name}")
        ranks.barrier("pilots voted")
        timing, what = (
            plan.folder / "pilots" / setting.name / "seconds_per_model.json",
            "no note of seconds; remove this one file",
        )
        if missing and ranks.rank == 0:
            write_json(timing, (time.perf_counter() - started) / missing)
        ranks.barrier("pilots timed")
        with guarded(timing, what, "--name"):
            seconds = float(read_json(timing, what, "--name")) if timing.exists() else None
        return forecast(plan, setting, store.read(first, MOST_MEMBERS), seconds)

    def _store(self, kind: str, setting: Setting, made_with: dict[str, Any]) -> VoteStore:
        plan = self.plan
        seed = self.models.randomness.seed

        def seeds(members: range) -> Marks:
            return np.array([member_seed(seed, member) for member in members], np.uint64)

        folder = plan.folder / kind / setting.name
        # Without noise, models that see the whole set see the same.
        own = seeds if setting.sigma else None
        store = VoteStore(folder, made_with, len(plan.tested), plan.data.num_classes, own)
        store.create()
        return store

    def _train(self, store: VoteStore, voters: Voters, members: range, block: int, text: str) -> None:
        ranks = self.ranks
        with StoreProgress(text, enabled=ranks.rank == 0) as bar:
            fill(store, members.start, members.stop, block, lambda own: voters.train(list(own), ranks), ranks, bar)


def _estimate(voters: Voters, missing: int, setting: Setting, ranks: Ranks) -> None:
    """Say how much there is to denoise, and how long that takes at the speed of one batch, before it starts."""
    rows = torch.zeros(voters.batch_size, dtype=torch.int64)
    images = voters.split.images[rows].to(ranks.device)
    place = rows.to(ranks.device)

    def one() -> None:
        clean = voters.defense(images, place, place).cpu()
        if voters.features is not None:
            voters.features(clean)

    one()
    started = time.perf_counter()
    one()
    rate = voters.batch_size / (time.perf_counter() - started)
    total = missing * setting.drawn
    work = "to noise and denoise" if setting.sigma else "without noise"
    disk = missing * prod(voters.tested.shape[:1]) * 2 / 2**20
    announce(
        f"{setting.name}: {missing} voters, {total:,.0f} images {work} at {rate:,.0f} a second, about "
        f"{total / rate / ranks.world / 60:.1f} min; votes take at most {disk:.1f} MiB",
        ranks,
    )
