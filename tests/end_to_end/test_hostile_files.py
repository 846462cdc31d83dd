"""Files as somebody may write them on purpose, in every place where the project reads one: one sentence, at once."""

import io
import json
import re
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import save_array, save_arrays
from tests.fuzzing.artefacts import MAKERS, Artefact, catalogue, make_all

DEEP = "[" * 20_000 + "]" * 20_000
SECONDS = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_all(folder)
    return folder


@pytest.fixture
def refused(made: Path, tmp_path: Path) -> Callable[[str, Callable[[Path], None]], str]:
    """What is said of one file, ``kind/path``, that was changed; nothing if it was read all the same."""
    import shutil

    def look(name: str, change: Callable[[Path], None], number: int = 0) -> str:
        artefact: Artefact = [a for a in catalogue(made) if a.name == name][number]
        shutil.copytree(made / artefact.kind, tmp_path / "it")
        change(tmp_path / "it" / artefact.file)
        if artefact.reseal is not None:
            artefact.reseal(tmp_path / "it")
        started = time.perf_counter()
        try:
            artefact.read(tmp_path / "it")
            text = ""
        except InputError as error:
            text = str(error)
        assert time.perf_counter() - started < SECONDS
        assert text.isprintable() or not text
        return text

    return look


def files(suffix: str) -> list[str]:
    """Names that :func:`catalogue` has, without making anything; compared below."""
    return {
        ".json": [
            "poison set/setup_000.json",
            "added trigger/setup_000.json",
            "sanitized set/out/manifest.json",
            "set in the making/out/.unfinished/plan.json",
            "array in the making/.out.npz.unfinished/plan.json",
            "store/store/manifest.json",
            "experiment/settings.json",
            "experiment/poisons/setup_000.json",
            "experiment/provenance.json",
            "certificate/one/certificate.json",
            "votes/votes/manifest.json",
            "votes/looks.json",
            "denoiser/config.json",
            "denoiser/scheduler_config.json",
            "denoiser/denoiser.json",
            "pipeline/model_index.json",
            "pipeline/unet/diffusion_pytorch_model.safetensors.index.json",
            "setups/setups.json",
        ],
        ".npy": ["denoiser/training_rows.npy", "set in the making/out/.unfinished/files.npy", "store/store/images.npy"],
        ".npz": [
            "votes/votes/votes_000000_000003.npz",
            "certificate/one/sigma_0.2_m_5.npz",
            "experiment/figures/features_none.npz",
            "benchmark poisons/poisons.npz",
            "arrays/set.npz",
        ],
    }[suffix]


def test_all_json_files_are_in_the_list(made: Path) -> None:
    found = {a.name for a in catalogue(made) if a.file.endswith(".json") and not Path(a.file).name.startswith(".")}
    assert found == set(files(".json")) and {a.kind for a in catalogue(made)} == set(MAKERS)


@pytest.mark.parametrize("content", [DEEP, f'{{"a": {DEEP}}}', "[]", '"x"', "null", "", "[1e999", "9" * 5000])
@pytest.mark.parametrize("name", files(".json"))
def test_json_that_is_deep_or_another_value(refused, name: str, content: str) -> None:
    text = refused(name, lambda path: path.write_text(content))
    # Notes without which nothing is wrong, and a list of claims that is empty.
    allowed = name.endswith(("provenance.json", "looks.json")) and content in ("[]", '"x"', "null")
    assert ("(--" in text) or (allowed and not text), text


def npy(shape: str, descr: str, data: bytes) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


LIES = {
    "more than there is": npy("(1000000000000,)", "'<u8'", bytes(160)),
    "overflow": npy("(4611686018427387904, 4)", "'<u8'", bytes(160)),
    "negative": npy("(-20,)", "'<u8'", bytes(160)),
    "objects": npy("(20,)", "'|O'", bytes(160)),
    "text": npy("(20,)", "'<U2'", bytes(160)),
    "times": npy("(20,)", "'<M8[s]'", bytes(160)),
    "no dimension": npy("()", "'<u8'", bytes(8)),
    "unclosed": npy("(20,", "'<u8'", bytes(160)),
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("name", files(".npy"))
def test_arrays_whose_header_lies(refused, name: str, lie: str) -> None:
    assert "(--" in refused(name, lambda path: path.write_bytes(LIES[lie]))


def rewrite(path: Path, change: Callable[[str, bytes], bytes], compressed: bool = False) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("name", files(".npz"))
def test_archives_whose_arrays_lie(refused, name: str, lie: str) -> None:
    text = refused(name, lambda path: rewrite(path, lambda member, content: LIES[lie]))
    assert "(--" in text or Path(name).name in text


@pytest.mark.parametrize("name", files(".npz"))
def test_archives_whose_packed_data_are_damaged(refused, name: str) -> None:
    def damage(path: Path) -> None:
        rewrite(path, lambda member, content: content, compressed=True)
        content = bytearray(path.read_bytes())
        for found in re.finditer(rb"PK\x03\x04.{26}[\w.]+\.npy", bytes(content), re.DOTALL):
            content[found.end() : found.end() + 20] = b"\xff" * 20
        path.write_bytes(content)

    assert re.search(r"is damaged or no .*\(--", refused(name, damage))


def no_dimension(path: Path) -> None:
    save_file(load_file(path) | {"poisons": torch.tensor(3, dtype=torch.uint8)}, path)


def trigger_without_dimension(path: Path) -> None:
    save_file(load_file(path) | {"trigger": torch.tensor(3, dtype=torch.uint8)}, path)


def float_rows(path: Path) -> None:
    save_file(load_file(path) | {"base_indices": torch.tensor([[0.5]])}, path)


@pytest.mark.parametrize("change", [no_dimension, trigger_without_dimension, float_rows])
def test_poison_sets_whose_tensors_have_other_shapes(refused, change) -> None:
    assert "setup_000.safetensors: " in refused("poison set/setup_000.safetensors", change)


def changed(**values: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


@pytest.mark.parametrize(
    "values",
    [
        *({"eps": value} for value in (float("nan"), 10**400 // 3, "x", None, -1)),
        *({"seed": value} for value in (-1, 2**63, 1.5, "7", True)),
        *({"target_index": value} for value in (-1, 10**30)),
        {"more_targets": [10**30]},
        {"trigger": None},
        *({"trigger": {"placement": value}} for value in ("nowhere", None)),
        *({"trigger": {"placement": "fixed", "place": value}} for value in ([1], [-1, 0], [10**9, 0], [2**70, 0], "ab", None)),
        *({"trigger": {"placement": "random", "amplitude": value}} for value in (float("nan"), 0, 2, "x")),
        {"trigger": {"placement": "random", "surprise": 1}},
    ],
    ids=str,
)
def test_poison_sets_whose_numbers_mean_nothing(refused, values: dict) -> None:
    assert "(--data.poisons)" in refused("poison set/setup_000.json", changed(**values))


@pytest.mark.parametrize(
    "values",
    [
        *({"trigger": {"kind": "additive", "test_scale": value}} for value in (float("nan"), 0, -3, 1e9, "3", None, True)),
        *({"trigger": {"kind": value, "test_scale": 3.0}} for value in ("patch", "other", None, 3)),
        {"trigger": {"kind": "additive", "test_scale": 3.0, "surprise": 1}},
        {"trigger": {"placement": "bottom_right"}},
        {"visible_trigger": True},
        {"goal": "targets"},
        {"trigger": None},
    ],
    ids=str,
)
def test_added_triggers_whose_settings_mean_nothing(refused, values: dict) -> None:
    assert "(--data.poisons)" in refused("added trigger/setup_000.json", changed(**values))


@pytest.mark.parametrize(
    "pattern",
    [
        torch.zeros(1, 32, 31, dtype=torch.int16),
        torch.zeros(1, 32, 32, dtype=torch.uint8),
        torch.full((1, 32, 32), 300, dtype=torch.int16),
        torch.zeros(0, 32, 32, dtype=torch.int16),
        torch.tensor(3, dtype=torch.int16),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)}",
)
def test_added_triggers_that_are_no_pattern(refused, pattern: torch.Tensor) -> None:
    def change(path: Path) -> None:
        save_file(load_file(path) | {"trigger": pattern}, path)

    assert "setup_000.safetensors: " in refused("added trigger/setup_000.safetensors", change)


def test_a_record_cannot_lead_a_report_elsewhere(made, refused, tmp_path: Path) -> None:
    def escape(path: Path) -> None:
        result = json.loads(path.read_text())
        result["settings"][0]["m"] = "5/../../../escaped"
        path.write_text(json.dumps(result))

    assert "its m is of type str" in refused("certificate/one/certificate.json", escape)
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize("name", ["../../../escaped.png", "/tmp/escaped.png", "class0/../../escaped.png"])
def test_a_set_in_the_making_cannot_lead_its_outputs_elsewhere(refused, tmp_path: Path, name: str) -> None:
    def escape(path: Path) -> None:
        names = path.with_suffix(".txt").read_bytes().split(b"\0")[:-1]
        names[-1] = name.encode()
        path.with_suffix(".txt").write_bytes(b"".join(item + b"\0" for item in names))
        save_array(path, np.cumsum([0, *(len(item) + 1 for item in names)]))

    assert "outputs.txt is damaged" in refused("set in the making/out/.unfinished/outputs.npy", escape)
    assert not list(tmp_path.parent.rglob("escaped.png")) and not Path("/tmp/escaped.png").exists()


@pytest.mark.parametrize("values", [{"batch_size": 10**12}, {"batch_size": "2"}, {"precision": "int8"}])
def test_a_set_in_the_making_whose_plan_asks_for_everything(refused, values: dict) -> None:
    def ask(path: Path) -> None:
        plan = json.loads(path.read_text())
        path.write_text(json.dumps(plan | {"settings": plan["settings"] | values}))

    assert "--out" in refused("set in the making/out/.unfinished/plan.json", ask)


HUGE = [
    *({"block_out_channels": value} for value in ([10**9, 10**9], [1 << 16] * 2, [8] * 10**5, 8, [8.5, 16], [])),
    *({"layers_per_block": value} for value in (10**6, 64, -1, "1")),
    *({"sample_size": value} for value in (10**9, [16, 10**9], 0, "16", [16])),
    *({"in_channels": value} for value in (10**9, 0, True, None)),
    *({"time_embedding_dim": value} for value in (10**9, "x")),
    {"norm_num_groups": 3},
    {"down_block_types": ["DownBlock2D"] * 1000},
    {"act_fn": "os.system"},
]


@pytest.mark.parametrize("values", HUGE, ids=str)
def test_denoisers_that_ask_for_everything(refused, values: dict) -> None:
    assert "(--denoiser)" in refused("denoiser/config.json", changed(**values))


@pytest.mark.parametrize(
    "values",
    [
        *({"num_train_timesteps": value} for value in (10**12, 0, "x", None)),
        *({"beta_end": value} for value in (float("nan"), "x", -1)),
        {"trained_betas": [2.0] * 1000},
        {"trained_betas": ["x"]},
        {"beta_schedule": "x"},
        {"_class_name": "../../x"},
        {"_class_name": ["DDPMScheduler"]},
    ],
    ids=str,
)
def test_schedulers_that_are_none(refused, values: dict) -> None:
    assert "(--denoiser)" in refused("denoiser/scheduler_config.json", changed(**values))


@pytest.mark.parametrize("name", ["../x.safetensors", "/dev/zero", 3, "x" * 9999 + ".safetensors", "model.bin"])
def test_weights_elsewhere(refused, name: object) -> None:
    def elsewhere(path: Path) -> None:
        index = json.loads(path.read_text())
        index["weight_map"] = dict.fromkeys(index["weight_map"], name)
        path.write_text(json.dumps(index))

    index = "pipeline/unet/diffusion_pytorch_model.safetensors.index.json"
    assert "weight_map names other files" in refused(index, elsewhere)


def repacked(path: Path) -> None:
    rewrite(path, lambda name, content: content, compressed=True)


def older(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)


def parameters(**values: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["hyper_parameters"] |= values
        torch.save(checkpoint, path)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (repacked, "it is not as torch writes it"),
        (older, "not a zip file"),
        (parameters(num_classes=10**12), "it says 1000000000000 classes and has weights of 10"),
        (parameters(in_channels=10**12), "reads images of 1000000000000 channels"),
        (parameters(mean=[0.5] * 10**4), "its mean"),
        (parameters(mean="0.5"), "its mean is of type str"),
        (parameters(network={"build": "os.system"}), "is not a network of ours, timm or torchvision"),
        (parameters(network={"build": "hf:someone/model"}), "is not a network of ours, timm or torchvision"),
        (parameters(network={"build": "convnet", "shell": "true"}), "is no network"),
    ],
)
def test_checkpoints_that_are_none(refused, change, reason: str) -> None:
    text = refused("checkpoint/model.ckpt", change)
    assert reason in text and "(--" in text


@pytest.mark.parametrize(
    "values", [{"trials": 0}, {"trials": 10**30}, {"successes": 2}, {"attack": 3}, {"sigma": "x"}, {"eps": -1}]
)
def test_results_that_are_none(refused, values: dict) -> None:
    def change(path: Path) -> None:
        first, *rest = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps(json.loads(first) | values), *rest]))

    text = refused("experiment/results.jsonl", change)
    assert "results.jsonl, line 1 is damaged or no list of results" in text and "(--run)" in text


def test_features_that_are_not_finite(refused) -> None:
    def change(path: Path) -> None:
        arrays = dict(np.load(path))
        arrays["poisons"][0] = np.nan
        save_arrays(path, arrays)

    assert "its poisons are none or not finite" in refused("experiment/figures/features_none.npz", change)


def test_an_older_torchvisions_pickles_are_not_read(refused) -> None:
    def shadow(path: Path) -> None:
        processed = path.parent.parent / "processed"
        processed.mkdir()
        with io.BytesIO() as buffer:
            torch.save((torch.zeros(4, 28, 28, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)), buffer)
            for name in ("training.pt", "test.pt"):
                (processed / name).write_bytes(buffer.getvalue())
        path.unlink()

    assert "train-images-idx3-ubyte is missing" in refused("MNIST/MNIST/raw/train-images-idx3-ubyte", shadow)
