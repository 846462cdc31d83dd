"""The whole story: craft, train undefended, sanitize, train, compare, report. Run again, it resumes."""

import io
import time
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.callbacks.wandb_logging import finish, log_images, make_logger
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder, sweep_partials, write_bytes, write_json
from poison_and_defend.core.progress import announce
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.defenses.switch import DefenseName
from poison_and_defend.experiment.steps.craft import craft_poisons, keep_imported
from poison_and_defend.experiment.steps.feature_space import save_tested
from poison_and_defend.experiment.steps.pictures import picture_panel
from poison_and_defend.experiment.steps.protect import Sanitized, sanitize_all
from poison_and_defend.experiment.steps.surrogates import attacker_models
from poison_and_defend.experiment.steps.victims import train_victims
from poison_and_defend.experiment.task.claim import claim
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.experiment.task.plan import check_experiment
from poison_and_defend.experiment.task.results import make_records
from poison_and_defend.reports.experiment.table import print_summary
from poison_and_defend.reports.experiment.write import write_report
from poison_and_defend.reports.figures import contact_sheet
from poison_and_defend.reports.records import provenance, read_results, write_results, write_summary
from poison_and_defend.training.launch import Launch


def run(experiment: Experiment, launch: Launch, config: str, *, until: str = "report") -> Path:
    """Run an experiment, or what is missing of it.

    Args:
        experiment: What is measured.
        launch: On which ranks.
        config: Resolved configuration as YAML, kept with the results.
        until: ``craft`` stops once the poisons are there; ``report`` goes to the end.

    Returns:
        The experiment's folder.

    Raises:
        InputError: If the input is bad, or the folder holds an experiment with other settings.
    """
    started = time.perf_counter()
    check_experiment(experiment)
    folder = experiment.folder
    make_folder(Path(experiment.output_dir), "--output_dir")
    make_folder(folder, "--output_dir")
    claim(folder, experiment.settings)
    ranks = launch.start()
    if len(experiment.rows) < ranks.world:
        raise InputError(f"{len(experiment.rows)} images cannot be shared by {ranks.world} ranks (--trainer.devices)")
    results = folder / "results.jsonl"
    if ranks.rank == 0 and not results.exists():
        write_bytes(folder / "config.yaml", config.encode())
    ranks.barrier("configuration kept")
    if until == "report" and results.exists():
        announce(f"{folder} is complete; nothing is done twice", ranks)
        records = read_results(results, "--name")
    else:
        poison_sets = _craft(experiment, config, ranks)
        if until == "craft":
            announce(f"poisons of {len(poison_sets)} setups are in {folder / 'poisons'}", ranks)
            return folder
        sanitized = _sanitize(experiment, poison_sets, config, ranks)
        logger = _logger(experiment, "train", config) if ranks.rank == 0 else None
        records = []
        for victim in experiment.victim_backbones:
            scores, seconds = train_victims(experiment, victim, poison_sets, sanitized, ranks, logger)
            records += make_records(experiment, victim, poison_sets, scores, seconds)
        if ranks.rank == 0:
            write_json(folder / "provenance.json", provenance(str(ranks.device), ranks.world))
            write_results(results, records)
            if logger is not None:
                logger.log_table("victims", columns=list(records[0]), data=[list(record.values()) for record in records])
                finish(logger)
    if ranks.rank == 0:
        summary = write_summary(folder / "summary.json", records)
        page = write_report(folder)
        print_summary(summary, f"{experiment.run_name}: {summary[0]['n']} setups, test accuracy is on clean images")
        # Of processes that were killed here, or beside it where networks and sanitized images are shared.
        for place in (folder, experiment.models_folder, experiment.stores_folder):
            sweep_partials(place)
        announce(f"report: {page}   ({time.perf_counter() - started:.0f} s)", ranks)
    ranks.barrier("reported")
    return folder


def _logger(experiment: Experiment, job_type: str, config: str) -> Any:
    return make_logger(experiment.wandb_project, experiment.run_name, job_type, experiment.folder, yaml.safe_load(config))


def _craft(experiment: Experiment, config: str, ranks: Ranks) -> list[PoisonSet]:
    logger = _logger(experiment, "craft", config) if ranks.rank == 0 else None
    if experiment.imported is not None:
        poison_sets = keep_imported(experiment, experiment.imported, ranks)
    else:
        poison_sets = craft_poisons(experiment, attacker_models(experiment, ranks, logger), ranks)
    if ranks.rank == 0:
        if logger is not None:
            columns = ["setup", "target_index", "target_label", "adversarial_label", "objective"]
            logger.log_table("poisons", columns, [[p.to_record()[c] for c in columns] for p in poison_sets])
        test = experiment.data.split("test")
        sheets = [contact_sheet(p, p.tested_images(test.images, test.labels)) for p in poison_sets[:4]]
        log_images(logger, "base_poison_difference", sheets, [f"setup {p.setup.index}" for p in poison_sets[:4]])
        finish(logger)
        save_tested(experiment, poison_sets)
    return poison_sets


def _sanitize(experiment: Experiment, poison_sets: list[PoisonSet], config: str, ranks: Ranks) -> dict[DefenseName, Sanitized]:
    sanitized = sanitize_all(experiment, poison_sets, ranks)
    if ranks.rank == 0 and len(sanitized) > 1:
        logger = _logger(experiment, "sanitize", config)
        name, image = picture_panel(experiment, poison_sets, sanitized)
        (experiment.folder / "figures").mkdir(exist_ok=True)
        write_bytes(experiment.folder / "figures" / f"{name}.png", image)
        if logger is not None:
            log_images(logger, name, [Image.open(io.BytesIO(image))], ["base, poison, noised, denoised"])
        finish(logger)
    return sanitized
