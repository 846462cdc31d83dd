"""Sanitized sets, complete and in the making, and the store of an experiment."""

import json
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import torch

from poison_and_defend.cleaning.data_task import SanitizeData
from poison_and_defend.cleaning.quality import Originals, QualityTask, run_quality
from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeTask
from poison_and_defend.core.files import write_json
from poison_and_defend.core.hashing import checksum_file
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.sanitizing.engine import load
from poison_and_defend.storage.ledger import BlockStore
from poison_and_defend.storage.verify import verify
from tests.fuzzing.artefacts.base import ONE, Artefact, Read, digits
from tests.picture_folders import write_photos

_UNFINISHED = ("plan.json", "blocks/000000.csv", "files.txt", "files.npy", "outputs.txt", "outputs.npy")


def _sanitize(folder: Path, out: str, seed: int | None = 0) -> Path:
    data = SanitizeData(str(folder / "in"), 3)
    return sanitize_alone(SanitizeTask(str(folder / out), data, "noise_only", sigma=0.1, noise_seed=seed, batch_size=2), ONE)


def _make_sanitized(folder: Path) -> None:
    write_photos(folder / "in", 4)
    _sanitize(folder, "out")
    _sanitize(folder, "out.npz")


def _make_unfinished(folder: Path, out: str, seed: int | None = 0) -> None:
    """All blocks done but one, as a kill leaves it."""
    write_photos(folder / "in", 6)

    class Killed(BaseException):
        pass

    def killed(*_: object) -> bool:
        raise Killed

    with patch.object(BlockStore, "finish", killed), suppress(Killed):
        _sanitize(folder, out, seed)
    (working,) = folder.glob("**/*unfinished")
    sorted((working / "blocks").iterdir())[-1].unlink()


def _resume(out: str, seed: int | None = 0) -> Read:
    def read(folder: Path) -> None:
        # Copies of inputs have other times.
        check_set(_sanitize(folder, out, seed))

    return read


def check_set(place: Path) -> None:
    verify(place, lambda done, total: None)


def _verify(folder: Path) -> None:
    check_set(folder / "out")


def _verify_npz(folder: Path) -> None:
    check_set(folder / "out.npz")


def _reseal_rows(folder: Path) -> None:
    path = folder / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    write_json(path, manifest | {"rows": checksum_file(folder / "out" / "rows.csv")})


def _quality(folder: Path) -> None:
    run_quality(QualityTask(str(folder / "out"), Originals(str(folder / "in"))))


def _quality_npz(folder: Path) -> None:
    run_quality(QualityTask(str(folder / "out.npz"), Originals(str(folder / "in"))))


def _make_store(folder: Path) -> None:
    from poison_and_defend.sanitizing.engine import sanitize
    from tests.countermeasures import rewriter

    images = digits().split("test").images[:8]
    sanitize(images, torch.arange(8), rewriter("noise_only", sigma=0.1, seed=0), folder / "store", Ranks(), batch_size=4)


def _read_store(folder: Path) -> None:
    load(folder / "store", (8, 1, 32, 32))[0].sum()


def _reseal_store(folder: Path) -> None:
    path = folder / "store" / "manifest.json"
    write_json(path, json.loads(path.read_text()) | {"images": checksum_file(folder / "store" / "images.npy")})


MAKERS: dict[str, Read] = {
    "sanitized set": _make_sanitized,
    "set in the making": lambda folder: _make_unfinished(folder, "out"),
    "array in the making": lambda folder: _make_unfinished(folder, "out.npz"),
    "set with a secret": lambda folder: _make_unfinished(folder, "out", None),
    "store": _make_store,
}


def artefacts(folder: Path) -> list[Artefact]:
    """In an order that is always the same.

    Args:
        folder: What all kinds were made in.
    """
    secret = next((folder / "set with a secret").glob(".out.noise-*.json")).name
    return [
        Artefact("sanitized set", "out/manifest.json", _verify, None, 6),
        Artefact("sanitized set", "out/manifest.json", _quality),
        Artefact("sanitized set", "out/rows.csv", _verify, _reseal_rows, 6),
        Artefact("sanitized set", "out/rows.csv", _quality, _reseal_rows),
        Artefact("sanitized set", "out/class0/0000.png", _verify),
        Artefact("sanitized set", "out/class0/0000.png", _quality),
        Artefact("sanitized set", "out.npz", _verify_npz, None, 8),
        Artefact("sanitized set", "out.npz", _quality_npz, None, 4),
        *(Artefact("set in the making", f"out/.unfinished/{name}", _resume("out")) for name in _UNFINISHED),
        Artefact("set in the making", ".out.inputs.npy", _resume("out")),
        *(
            Artefact("array in the making", f".out.npz.unfinished/{name}", _resume("out.npz"))
            for name in ("plan.json", "blocks/000001.csv", "files.npy", "labels.npy", "images.npy")
        ),
        Artefact("set with a secret", secret, _resume("out", None)),
        Artefact("store", "store/manifest.json", _read_store),
        Artefact("store", "store/images.npy", _read_store, _reseal_store),
    ]
