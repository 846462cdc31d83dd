"""What the commands say of themselves, and that what they keep of it is true."""

import json
import re
import subprocess
import sys

import pytest

from poison_and_defend.cli import main as cli
from poison_and_defend.cli.help import catalogue, front_door
from poison_and_defend.cli.help.catalogue import FOLDER, read
from poison_and_defend.cli.table import COMMANDS, LIGHTNING

OURS = [name for name in COMMANDS if name not in LIGHTNING]


@pytest.fixture(scope="module")
def described(tmp_path_factory) -> dict[str, dict]:
    """Every command as its parser is now; by a process of its own, since tests define classes too."""
    code = (
        "import json, sys; from poison_and_defend.cli.help.describe import describe_command\n"
        "from poison_and_defend.cli.table import COMMANDS\n"
        "print(json.dumps({name: describe_command(name) for name in COMMANDS}))"
    )
    return json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_kept_is_what_the_parser_says(command, described) -> None:
    kept = json.loads((FOLDER / f"{command}.json").read_text())
    if kept["lightning"] not in (None, catalogue.installed("lightning")):
        pytest.skip("the catalogue is of another version of Lightning, and is not used here")
    assert kept == described[command], "run: make catalogue"


def test_no_file_is_kept_of_a_command_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_line_of_help_can_be_read_alone(command) -> None:
    text = read(command).help
    dangling = r"Likewise|See :|The same\b|See `|:(class|func|mod|meth):|<class|class_path|NoneType|Namespace|==SUPPRESS=="
    assert not re.search(dangling, text), re.search(rf".*({dangling}).*", text)[0]
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_does(command) -> None:
    text = read(command).help
    blocks = re.split(r"\n(?=  --)", text)[1:]
    # A loud defect of a docstring: an argument that it does not mention.
    silent = [block.split()[0] for block in blocks if not re.search(r"\n      (?!Takes )\S", block)]
    assert not [name for name in silent if not name.startswith("--trainer")], silent
    # A sentence that leans on the option's name or on the line before it.
    leaning = [block for block in blocks if re.search(r"^ +(Of|For|Between|They|Their|Its|How they)\b", block.split("\n")[1])]
    assert not [block for block in leaning if not block.strip().startswith("--trainer.")], leaning


@pytest.mark.parametrize("command", OURS)
def test_groups_have_titles_of_their_own(command) -> None:
    titles = re.findall(r"^([A-Z].*):$", read(command).help, re.M)
    assert len(titles) == len(set(titles)) >= 2 and "Options" not in titles


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_printed_and_is_no_error(command, capsys) -> None:
    assert cli.main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed == read(command).help
    assert printed.startswith(f"usage: poison-and-defend {command} ") and "--config" in printed


def test_what_is_of_other_sources_is_not_used_and_the_parser_answers(tmp_path, monkeypatch, capsys) -> None:
    known = json.loads((FOLDER / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps(known | {"sources": "other", "help": "stale"}))
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
    assert read("report") is None and read("certify") is None
    assert cli.main(["report", "--help"]) == 0
    assert capsys.readouterr().out == known["help"]
    assert cli.main(["report", "--rum=x"]) == 2
    assert "there is no option --rum: did you mean --run" in capsys.readouterr().err


HEAVY = ("torch", "lightning", "diffusers", "wandb", "torchvision", "jsonargparse", "numpy")
QUICK = {
    "--help": 0,
    **{f"{name} --help": 0 for name in COMMANDS},
    **{f"{name} --sigmma=1": 2 for name in COMMANDS},
    **{f"{name} --config=nowhere.yaml": 2 for name in COMMANDS},
    "poison-and-defend --attack=voodoo": 2,
    "poison-and-defend --attack.epss=1": 2,
    "craft --denoiser=nowhere/at/all": 2,
    "craft --setups=nowhere.json": 2,
    "craft --num_setups=many": 2,
    "report --run=nowhere": 2,
    "export-poisons --run=nowhere --out=x": 2,
    "quality --sanitized=nowhere --data.root=x": 2,
    "recommend-sigma --data.root=nowhere": 2,
    "sanitize --data.root=nowhere --out=x": 2,
    "sanitize --verify=nowhere": 2,
    "fit --model=ClassifierModule --data=ImageFolderDataModule --data.root=nowhere": 2,
    "predict --model=ClassifierModule --data=DigitsDataModule --ckpt_path=nowhere.ckpt": 2,
    "fitt": 2,
}


def test_help_wrong_options_and_missing_files_import_nothing_that_takes_seconds(tmp_path) -> None:
    """In one process, which has imported nothing else: what one of them imported the last line would show."""
    code = (
        "import sys, json; from poison_and_defend.cli.main import main\n"
        "found = {}\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    status = main(line.split())\n"
        f"    found[line] = [status, sorted(set({HEAVY}) & set(sys.modules))]\n"
        "print(json.dumps(found), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code, json.dumps([*QUICK])], capture_output=True, text=True, cwd=tmp_path)
    found = json.loads(ran.stderr.splitlines()[-1])
    assert {line: [status, []] for line, status in QUICK.items()} == found
    assert ran.stderr.count("error: ") == sum(status == 2 for status in QUICK.values())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "typed",
    [
        "poison-and-defend --data.root=x --data=my.own.DataModule --data.colour=red",
        "poison-and-defend --attack=LabelConsistent --attack.trigger=PatchTrigger --attack.trigger.size=3",
        "poison-and-defend --victim_recipe.epochs=3 --sigma=25/255 --seed=0x10 --num_setups=1_0 --dropout=nan",
        "poison-and-defend --victim_recipe={epochs: 3} --wandb_project=null --outside_threat_model=yes",
        "craft --data.init_args.batch_size=4 --attack=BullseyePolytope --attack.init_args.eps=.1",
        "fit --model=ClassifierModule --data=DigitsDataModule --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=x",
        "fit --model=ClassifierModule --data=CIFAR10DataModule --data.root=to_be_made --optimizer=torch.optim.Adam",
        "fit --model=ClassifierModule --data=PoisonedDataModule --data.source=DigitsDataModule --data.source.batch_size=3",
        "craft --attack=poison_frogs --attack.beta=1",
        "craft --config=benchmark/cifar10_transfer --data.root=to_be_made --data.train=x.npz",
        "craft --attack.help=BullseyePolytope --nonsense=1",
        "craft --print_config --nonsense=1",
    ],
)
def test_what_cannot_be_judged_at_once_is_left_to_the_parser(typed) -> None:
    command, *words = typed.replace("{epochs: 3}", "{epochs:3}").split()
    assert front_door.answer(command, words) is False
