"""What a certificate leaves: JSON, arrays, pictures, a page, and tables in W&B."""

import io
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from poison_and_defend.callbacks.wandb_logging import finish, log_images, make_logger
from poison_and_defend.certificate.plan import CertificatePlan
from poison_and_defend.core.files import save_arrays, write_json
from poison_and_defend.reports.certificate.records import Certificate
from poison_and_defend.reports.certificate.table import print_certificate
from poison_and_defend.reports.certificate.write import write_certificate_report


def publish(plan: CertificatePlan, certificate: Certificate, arrays: dict[str, dict[str, Any]], config: str) -> None:
    """Keep and show everything; one rank does.

    Args:
        arrays: Of each setting by its name.
        config: Resolved configuration as YAML.
    """
    folder = plan.folder
    write_json(folder / "certificate.json", certificate.to_json())
    for name, own in arrays.items():
        save_arrays(folder / f"{name}.npz", own)
    write_certificate_report(folder)
    logger = make_logger(plan.wandb_project, folder.name, "certify", folder, yaml.safe_load(config))
    if logger is not None:
        _log(logger, folder, certificate)
    finish(logger)
    print_certificate(certificate)


def _log(logger: WandbLogger, folder: Path, certificate: Certificate) -> None:
    rows = [
        [setting.label, k, eps, setting.table[i][j], setting.table_all_images[i][j]]
        for setting in certificate.settings
        for i, k in enumerate(certificate.k)
        for j, eps in enumerate(certificate.eps)
    ]
    logger.log_table("certified_accuracy", ["setting", "k", "eps", "each image", "all images"], rows)
    for path in sorted((folder / "figures").glob("*.png")):
        log_images(logger, f"certificate/{path.stem}", [Image.open(io.BytesIO(path.read_bytes()))], [path.stem])
    logger.log_metrics({f"accuracy/{setting.label}": setting.accuracy for setting in certificate.settings})
