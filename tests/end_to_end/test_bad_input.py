import pickle
import re
import shutil

import numpy as np
import pytest

from poison_and_defend.cli.dispatch import dispatch
from poison_and_defend.core.errors import InputError


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(40) % 4
    np.savez(tmp_path / "good.npz", images=images, labels=labels)
    np.savez(tmp_path / "unlabelled.npz", images=images)
    np.savez(tmp_path / "bright.npz", images=images / 100, labels=labels)
    np.savez(tmp_path / "small.npz", images=images[:, :16, :16], labels=labels)
    shutil.copytree("poison_and_defend/pretrained/digits", tmp_path / "broken")
    weights = tmp_path / "broken" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    (tmp_path / "evil.pickle").write_bytes(pickle.dumps(Hostile(tmp_path / "owned")))
    (tmp_path / "cut.pickle").write_bytes(pickle.dumps([{"target class": 1}] * 20)[:30])
    return tmp_path


class Hostile:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


def arrays(folder, train="good.npz", *more):
    return [
        "--data=ArraysDataModule",
        f"--data.root={folder}",
        f"--data.train={train}",
        "--data.test=good.npz",
        "--data.public=good.npz",
        "--num_poisons=5",
        "--defenses=[none]",
        *more,
    ]


CASES = {
    "unknown attack": (lambda f: ["--attack=voodoo"], "voodoo.*choose from .*bullseye_polytope.*witches_brew"),
    "attack in the wrong scenario": (
        lambda f: ["--scenario=from_scratch"],
        "attack on fine_tune or transfer, not on from_scratch",
    ),
    "missing data": (lambda f: arrays(f, "missing.npz"), "cannot read .*missing.npz: No such file"),
    "no labels": (lambda f: arrays(f, "unlabelled.npz"), "no array named labels"),
    "float images above one": (lambda f: arrays(f, "bright.npz"), r"outside \[0, 1\]"),
    "labels out of range": (
        lambda f: arrays(f, "good.npz", "--data.num_classes=3"),
        r"labels range from 0 to 3, outside 0\.\.2",
    ),
    "negative sigma": (lambda f: ["--sigma=-0.1"], r"sigma is -0.1: write a number of at least 0, or .* \(--sigma\)"),
    "sigma in levels": (lambda f: ["--sigma=25"], r"sigma is 25: .* at most 10, and 25 of 255 .* 25/255 \(--sigma\)"),
    "sigma that is no number": (lambda f: ["--sigma=much"], r"sigma is 'much': write a number .* 25/255 \(--sigma\)"),
    "eps zero": (lambda f: ["--attack.eps=0"], r"eps is 0: it must be above 0 .*\(--attack.eps\)"),
    "eps above one": (lambda f: ["--attack.eps=1.5"], r"eps is 1.5: .* at most 1"),
    "eps that is no number": (lambda f: ["--attack.eps=eight"], "eps is 'eight'"),
    "too many poisons": (lambda f: ["--num_poisons=300"], r"num_poisons is 300, but class \d has only \d+ training images"),
    "no poisons": (lambda f: ["--num_poisons=0"], "num_poisons is 0"),
    "no setups": (lambda f: ["--num_setups=0"], "num_setups is 0"),
    "a denoiser of other channels": (
        lambda f: arrays(f, "good.npz", "--defenses=[diffusion]"),
        r"takes images of 1 channels, the data's have 3 \(--denoiser\)",
    ),
    "tiles that overlap whole": (
        lambda f: ["--defenses=[diffusion]", "--arms.diffusion.overlap=32"],
        r"overlap is 32: for tiles of 32 x 32 it is 0 to 31 \(--overlap\)",
    ),
    "a truncated denoiser": (
        lambda f: [f"--denoiser={f / 'broken'}"],
        r"broken/.*safetensors is damaged or no weights of a denoiser: ",
    ),
    "a missing denoiser": (lambda f: ["--denoiser=/nowhere/at/all"], "there is no denoiser ./nowhere/at/all.: choose"),
    "unknown network": (lambda f: ["--network=transformer"], r"'transformer' is no network: .*\(--network\)"),
    "missing setups": (lambda f: ["--setups=nowhere.json"], r"there is no file of setups nowhere.json \(--setups\)"),
    "hostile setups": (lambda f: [f"--setups={f / 'evil.pickle'}"], r"evil.pickle.*\(--setups\)"),
    "truncated setups": (lambda f: [f"--setups={f / 'cut.pickle'}"], r"cut.pickle.*\(--setups\)"),
    "a patch larger than the image": (
        lambda f: ["--attack=hidden_trigger", "--attack.trigger.init_args.size=40"],
        r"trigger of 40 pixels.*does not fit into 32 x 32.*--attack.trigger.size",
    ),
    "a trigger that is no picture": (
        lambda f: ["--attack=hidden_trigger", f"--attack.trigger.init_args.image={f / 'good.npz'}"],
        r"cannot read the trigger .*good.npz",
    ),
    "surrogates of another architecture": (
        lambda f: [f"--surrogate_weights=[{f / 'broken' / 'diffusion_pytorch_model.safetensors'}]"],
        r"is damaged or no weights of this network: .*\(--surrogate_weights\)",
    ),
    "imported poisons that are not there": (lambda f: [f"--poisons_from={f}"], r"neither 000/ nor 000.npz"),
    "unwritable output": (lambda f: ["--output_dir=/proc/runs"], r"cannot write to /proc/runs: .*\(--output_dir\)"),
    "unknown option": (lambda f: ["--sigmma=1"], "sigmma"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_stops_with_one_sentence_and_leaves_nothing(name, files, capsys, monkeypatch):
    arguments, message = CASES[name]
    output = files / "runs"
    given = arguments(files)
    if not any(a.startswith("--output_dir") for a in given):
        given = [*given, f"--output_dir={output}"]
    with pytest.raises((InputError, SystemExit)) as stop:
        dispatch(["poison-and-defend", *given])
    if isinstance(stop.value, SystemExit):
        assert stop.value.code == 2
        text = capsys.readouterr().err
    else:
        text = str(stop.value)
        assert "\n" not in text
    assert re.search(message, text), text
    assert not output.exists() or not any(output.iterdir())
    assert not (files / "owned").exists()


POISONED = ["--data=PoisonedDataModule", "--data.source=DigitsDataModule", "--data.poisons=no.safetensors"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["poison-and-defend", "--attack=voodoo"], "error: 'voodoo' is not an attack"),
        (["benchmark", "--attacks=bullseye_polytope"], "error: name the comparison"),
        (["benchmark", "--attacks=bullseye_polytope,voodoo", "--name=x"], "error: 'voodoo' is not an attack"),
        (["export-poisons", "--run=nowhere", "--out=nowhere/out"], "error: there is no folder nowhere (--run)"),
        (["heal"], "error: there is no command 'heal'"),
        (["fit", "--model=ClassifierModule", *POISONED], "error: cannot read no.safetensors: No such file"),
        (["report", "--run=nowhere"], "error: there is no folder nowhere (--run)"),
    ],
)  # fmt: skip
def test_the_command_line_says_it_in_one_line_without_a_traceback(in_process, command, message):
    said_in_one_line(in_process(*command), message)


def test_so_does_a_new_process(cli):
    said_in_one_line(cli("poison-and-defend", "--sigma=500", WANDB_MODE="offline"), "error: sigma is 500")


def said_in_one_line(result, message):
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert sum(line.startswith("error:") for line in result.stderr.splitlines()) == 1


@pytest.mark.ddp
@pytest.mark.slow
def test_fewer_images_than_ranks(cli, files):
    few = np.load(files / "good.npz")
    np.savez(files / "few.npz", images=few["images"][:2], labels=np.array([0, 1]))
    result = cli(
        "poison-and-defend", *arrays(files, "few.npz", "--num_poisons=1"), f"--output_dir={files / 'runs'}",
        "--data.test=few.npz", "--data.public=few.npz",
        "--trainer.devices=3", "--trainer.strategy=ddp", "--trainer.accelerator=cpu",
    )  # fmt: skip
    assert (
        result.returncode != 0 and "2 images cannot be shared by 3 ranks" in result.stderr and "Traceback" not in result.stderr
    )
