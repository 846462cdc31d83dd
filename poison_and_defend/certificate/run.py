"""Training the voters of a certificate with all ranks and jobs, and saying what their vote withstands."""

import time
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from poison_and_defend.callbacks.wandb_logging import finish, make_logger
from poison_and_defend.certificate.challenge import challenge
from poison_and_defend.certificate.claims import best_of, evaluate, forecast
from poison_and_defend.certificate.ingredients import Provenance, check_public
from poison_and_defend.certificate.log import log_certificate
from poison_and_defend.certificate.models import CertifyModels
from poison_and_defend.certificate.secret import settle_secret
from poison_and_defend.certificate.task import CertifyTask, Setting
from poison_and_defend.certificate.vote_store import Votes, VoteStore, fill
from poison_and_defend.certificate.voters import MOST_MEMBERS, Voters
from poison_and_defend.certification import void_reasons
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder, save_arrays, sweep_partials, write_bytes, write_json
from poison_and_defend.core.progress import StoreProgress, announce
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.core.reading.files import guarded, read_json
from poison_and_defend.reports.certificate.table import print_certificate
from poison_and_defend.reports.certificate.write import write_certificate_report
from poison_and_defend.reports.records import provenance
from poison_and_defend.training.launch import Launch


def run_certify(task: CertifyTask, launch: Launch, config: str) -> Path:
    """Train what is missing of the voters, then write ``certificate.json``, one ``.npz`` a setting, figures and the page.

    Args:
        task: What is certified.
        launch: On which ranks; other jobs may work on the same folder at the same time.
        config: Resolved configuration as YAML, kept with the results.

    Returns:
        The folder of the results.

    Raises:
        InputError: If the input is bad, the folder holds votes of other models, or something voids the certificate and
            ``uncertified`` is not set.
    """
    started = time.perf_counter()
    task.check()
    check_public(task)
    ingredients = Provenance(task).ingredients()
    reasons = void_reasons(ingredients)
    if reasons and not task.uncertified:
        raise InputError(
            f"this would be no certificate: {'; '.join(reasons)}. If the origin is unknown and you know better, say so "
            "(--vouch); to see the numbers all the same, labelled as uncertified (--uncertified true)"
        )
    make_folder(Path(task.output_dir), "--output_dir")
    ranks = launch.start()
    if ranks.rank == 0:
        make_folder(task.folder, "--output_dir")
        write_bytes(task.folder / "config.yaml", config.encode())
    ranks.barrier("folder made")
    settle_secret(task, ranks)
    models = CertifyModels(task, ranks)
    forecasts: list[dict[str, Any]] = []
    settings = task.settings
    if task.pilot and len(settings) > 1:
        forecasts = [_pilot(task, setting, models, ranks) for setting in settings]
        chosen = int(np.argmax([f["expected"][f["models"].index(task.models)] for f in forecasts]))
        settings = [settings[chosen]]
        announce(f"pilots choose {settings[0].name} for {task.goal_k} poisons of {task.goal_eps}", ranks)
    records, arrays = [], {}
    for setting in settings:
        store, votes, seconds, alone = _votes(task, setting, models, ranks)
        record, own = evaluate(task, setting, votes, len(settings))
        if ranks.rank == 0:
            looks = store.look(task.selection + task.models)
            records.append(record | {"trusted_alone": alone, "looks": looks, "seconds": round(seconds, 1)})
            arrays[setting.name] = own
            if task.challenge:
                records[-1]["challenge"] = challenge(task, setting, models, votes)
    if ranks.rank == 0:
        result = {
            "dataset": task.data.name,
            "certified": not reasons,
            "void": reasons,
            "alpha": task.alpha,
            "norm": task.norm,
            "k": task.k,
            "eps": [str(eps) for eps in task.eps],
            "radii": [r if np.isfinite(r) else None for r in task.radii.tolist()],
            "image_shape": list(task.data.image_shape),
            "learner": task.learner,
            "warm_start": task.warm_start,
            "defense": task.defense,
            "randomness": task.randomness,
            "ingredients": [vars(i) for i in ingredients],
            "settings": records,
            "best": best_of(records),
            "forecasts": forecasts,
            "goal": {"k": task.goal_k, "eps": str(task.goal_eps)},
            "wall_seconds": round(time.perf_counter() - started, 1),
            "provenance": provenance(str(ranks.device), ranks.world),
        }
        _keep(task, result, arrays, config)
        for place in (task.folder, task.models_folder, Path(task.output_dir) / "stores"):
            # Of processes that were killed here, or where networks and sanitized images are shared.
            sweep_partials(place)
        announce(f"report: {task.folder / 'report.html'}   ({time.perf_counter() - started:.0f} s)", ranks)
    ranks.barrier("certified")
    return task.folder


def _keep(task: CertifyTask, result: dict[str, Any], arrays: dict[str, Any], config: str) -> None:
    write_json(task.folder / "certificate.json", result)
    for name, own in arrays.items():
        save_arrays(task.folder / f"{name}.npz", own)
    write_certificate_report(task.folder)
    logger = make_logger(task.wandb_project, task.folder.name, "certify", task.folder, yaml.safe_load(config))
    log_certificate(logger, task.folder, result)
    finish(logger)
    print_certificate(result)


def _votes(
    task: CertifyTask, setting: Setting, models: CertifyModels, ranks: Ranks
) -> tuple[VoteStore, Votes, float, float | None]:
    """Votes of all models of a setting, trained where missing; seconds that took; accuracy of trusted data alone."""
    voters, made_with = models.voters(setting)
    store = VoteStore(task.folder / "votes" / setting.name, made_with, len(task.tested), task.data.num_classes)
    store.create()
    total, started = task.selection + task.models, time.perf_counter()
    if store.done(0, total) < total:
        _estimate(voters, total - store.done(0, total), setting, ranks)
    _train(task, store, voters, 0, total, f"{total} voters, sigma {setting.sigma:g}, {setting.drawn:.0f} images each", ranks)
    ranks.barrier("voted")
    return store, store.read(0, total), time.perf_counter() - started, models.trusted_accuracy(setting)


def _pilot(task: CertifyTask, setting: Setting, models: CertifyModels, ranks: Ranks) -> dict[str, Any]:
    """A forecast from voters that are counted from the other end, so that no certificate ever contains them."""
    small = replace(task, members_per_block=min(task.members_per_block, task.pilot))
    voters, made_with = models.voters(setting)
    folder = task.folder / "pilots" / setting.name
    store = VoteStore(folder, made_with, len(task.tested), task.data.num_classes)
    store.create()
    started, first = time.perf_counter(), MOST_MEMBERS - task.pilot
    missing = task.pilot - store.done(first, MOST_MEMBERS)
    _train(small, store, voters, first, MOST_MEMBERS, f"{task.pilot} pilots of {setting.name}", ranks)
    ranks.barrier("pilots voted")
    timing = folder / "seconds_per_model.json"
    if missing and ranks.rank == 0:
        write_json(timing, (time.perf_counter() - started) / missing)
    ranks.barrier("pilots timed")
    with guarded(timing, "no note of seconds; remove this one file", "--name"):
        seconds = float(read_json(timing, "no note of seconds; remove this one file", "--name")) if timing.exists() else None
    return forecast(task, setting, store.read(first, MOST_MEMBERS), seconds)


def _train(task: CertifyTask, store: VoteStore, voters: Voters, first: int, stop: int, text: str, ranks: Ranks) -> None:
    with StoreProgress(text, enabled=ranks.rank == 0) as bar:
        fill(store, first, stop, task.members_per_block, lambda block: voters.train(list(block), ranks), ranks, bar)


def _estimate(voters: Voters, missing: int, setting: Setting, ranks: Ranks) -> None:
    """Say how much there is to denoise, and how long that takes at the speed of one batch, before it starts."""
    rows = torch.zeros(voters.batch_size, dtype=torch.int64)
    images = voters.split.images[rows].to(ranks.device)
    place = rows.to(ranks.device)
    voters.defense(images, place, place)
    started = time.perf_counter()
    voters.defense(images, place, place)[0, 0, 0, 0].item()
    rate = voters.batch_size / (time.perf_counter() - started)
    total = missing * setting.drawn
    disk = missing * prod(voters.tested.shape[:1]) * 2 / 2**20
    announce(
        f"{setting.name}: {missing} voters, {total:,.0f} images to noise and denoise at {rate:,.0f} a second, about "
        f"{total / rate / ranks.world / 60:.1f} min; votes take at most {disk:.1f} MiB",
        ranks,
    )
