"""Command-line parsing: which stage, with which configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from poison_and_defend.cli.allocation import leave_idle_allocation
from poison_and_defend.cli.full_disk import refuse_full_disk
from poison_and_defend.cli.parsing import CommandParser, OneSentence, parse
from poison_and_defend.cli.presets import TRANSFER_ATTACKS
from poison_and_defend.cli.sanitize import quality, recommend_sigma, sanitize
from poison_and_defend.cli.sentences import suggestion
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.options import from_flat, option_groups

_ROOT = Path(__file__).resolve().parent.parent
_DEFAULTS = _ROOT / "configs" / "digits.yaml"
_CERTIFY_DEFAULTS = _ROOT / "configs" / "certify" / "digits.yaml"
LIGHTNING = {
    "fit": "train a model on a data set, sanitizing it first if the data set says so",
    "validate": "run one validation epoch",
    "test": "measure a trained model",
    "predict": "write a trained model's classes of the test images to a file",
}
"""Lightning's own commands, and what they do."""


def dispatch(arguments: list[str]) -> None:
    """Run the command that the first argument names.

    Raises:
        InputError: If there is no such command, its input is bad, or the disk is full.
    """
    leave_idle_allocation()
    command = arguments[0] if arguments else "--help"
    try:
        _dispatch(command, arguments)
    except Exception as error:
        refuse_full_disk(command, error)
        raise


def _dispatch(command: str, arguments: list[str]) -> None:
    if command in ("-h", "--help"):
        print(_overview())
    elif command in LIGHTNING:
        # Lightning takes seconds to import, which most commands need not pay.
        from poison_and_defend.cli.lightning import run_lightning

        run_lightning(arguments, LIGHTNING)
    elif command in _STAGES:
        _STAGES[command][0](arguments[1:])
    else:
        known = [*_STAGES, *LIGHTNING]
        told = suggestion(command, known) or f": choose from {', '.join(known)}"
        raise InputError(f"there is no command {command!r}{told}")


def _overview() -> str:
    lines = ["usage: python cli.py COMMAND [--config FILE] [--OPTION VALUE ...]", "", "stages:"]
    lines += [f"  {name:18} {text}" for name, (_, text) in _STAGES.items()]
    lines += ["", "Lightning:", *(f"  {name:18} {text}" for name, text in LIGHTNING.items())]
    lines += ["", "python cli.py COMMAND --help lists the options of a command; --print_config writes them as YAML."]
    return "\n".join(lines)


def _experiment_parser(command: str) -> CommandParser:
    # Importing the rooms lets options name their classes without a path.
    import poison_and_defend.attacks
    import poison_and_defend.datamodules  # noqa: F401
    from poison_and_defend.experiment.task.options import Experiment
    from poison_and_defend.training.launch import Launch

    parser = CommandParser(prog=f"cli.py {command}", description=_STAGES[command][1], default_config_files=[str(_DEFAULTS)])
    parser.add_argument("--config", action="config", help="YAML file; may be repeated, later ones win")
    for group in option_groups(Experiment).values():
        parser.add_class_arguments(group, None)
    parser.add_class_arguments(Launch, "trainer")
    return parser


def _build_experiment(command: str, arguments: list[str]) -> tuple[Any, Any, str]:
    """Experiment, launch, and the resolved configuration as YAML."""
    from poison_and_defend.experiment.task.options import Experiment

    parser = _experiment_parser(command)
    config, built = parse(parser, arguments)
    options = dict(vars(built))
    launch = options.pop("trainer")
    options.pop("config", None)
    return from_flat(Experiment, options), launch, parser.dump(config, skip_none=False)


def _experiment(command: str, until: Literal["craft", "report"]) -> Callable[[list[str]], None]:
    def start(arguments: list[str]) -> None:
        from poison_and_defend.experiment.run import run
        from poison_and_defend.experiment.task.plan import plan_experiment

        experiment, launch, text = _build_experiment(command, arguments)
        run(plan_experiment(experiment), launch, text, until=until)

    return start


def _benchmark(arguments: list[str]) -> None:
    from poison_and_defend.experiment.benchmark import Entry, run_all

    own = OneSentence(prog="cli.py benchmark", description=_STAGES["benchmark"][1], add_help=False, allow_abbrev=False)
    own.add_argument("--attacks", default=TRANSFER_ATTACKS, help="presets, separated by commas")
    own.add_argument("--name", help="folder of the results under output_dir")
    own.add_argument("-h", "--help", action="store_true")
    given, rest = own.parse_known_args(arguments)
    if given.help or given.name is None:
        print(own.format_help() + "Everything else is an option of poison-and-defend, for all attacks alike.")
        if given.help:
            return
        raise InputError("name the comparison: its folder holds one experiment an attack (--name)")
    names = [name for name in given.attacks.split(",") if name]
    entries = []
    for name in names:
        # What all attacks are tried on overrides what a preset was made for.
        folder = f"{given.name}/{Path(name).stem}"
        experiment, launch, text = _build_experiment("benchmark", ["--attack", name, *rest, "--name", folder])
        entries.append(Entry(experiment, text))
    if not entries:
        raise InputError("no attack is named (--attacks)")
    run_all(entries, launch, Path(entries[0].experiment.place.output_dir) / given.name)


def _train_denoiser(arguments: list[str]) -> None:
    import lightning as L

    import poison_and_defend.datamodules  # noqa: F401
    from poison_and_defend.cli.lightning import trainer_refusals
    from poison_and_defend.core.interrupts import saying
    from poison_and_defend.lightning_modules.denoiser import DenoiserModule
    from poison_and_defend.training.denoiser import PublicDataModule, train_denoiser
    from poison_and_defend.training.launch import quiet_lightning

    quiet_lightning()

    parser = CommandParser(prog="cli.py train-denoiser", description=_STAGES["train-denoiser"][1])
    parser.add_argument("--config", action="config", help="YAML file; may be repeated, later ones win")
    parser.add_class_arguments(DenoiserModule, "model")
    parser.add_class_arguments(PublicDataModule, "data")
    parser.add_class_arguments(L.Trainer, "trainer")
    parser.add_argument("--out", type=str, required=True, help="folder to write; must not exist")
    parser.add_argument("--half", type=bool, default=False, help="store float16 weights")
    with trainer_refusals():
        _, built = parse(parser, arguments)
    again = f"stopped; {built.out} is not written, and the same command trains again from the start"
    with saying(lambda: again):
        target = train_denoiser(built.model, built.data, built.trainer, built.out, half=built.half)
    print(f"denoiser: {target}")


def _export(arguments: list[str]) -> None:
    from poison_and_defend.poisons.exchange import export_poisons

    parser = CommandParser(prog="cli.py export-poisons", description=_STAGES["export-poisons"][1])
    parser.add_argument("--run", type=str, required=True, help="folder of an experiment whose poisons are crafted")
    parser.add_argument("--out", type=str, required=True, help="folder to write")
    parser.add_argument("--format", type=str, default="pickle", help="pickle (the benchmark's three files a setup) or npz")
    given = parser.parse_args(arguments)
    print(f"{export_poisons(Path(given.run), Path(given.out), given.format)} setups are in {given.out}")


def _certify(arguments: list[str]) -> None:
    import poison_and_defend.datamodules  # noqa: F401
    from poison_and_defend.certificate.run import run_certify
    from poison_and_defend.certificate.task import CertifyTask
    from poison_and_defend.training.launch import Launch

    parser = CommandParser(
        prog="cli.py certify", description=_STAGES["certify"][1], default_config_files=[str(_CERTIFY_DEFAULTS)]
    )
    parser.add_argument("--config", action="config", help="YAML file; may be repeated, later ones win")
    parser.add_class_arguments(CertifyTask, None)
    parser.add_class_arguments(Launch, "trainer")
    config, built = parse(parser, arguments)
    options = dict(vars(built))
    launch = options.pop("trainer")
    options.pop("config", None)
    run_certify(CertifyTask(**options), launch, parser.dump(config, skip_none=False))


def _report(arguments: list[str]) -> None:
    from poison_and_defend.reports.certificate.write import write_certificate_report
    from poison_and_defend.reports.experiment.write import write_report

    parser = CommandParser(prog="cli.py report", description=_STAGES["report"][1])
    parser.add_argument("--run", type=str, required=True, help="folder of a finished experiment or certificate")
    folder = Path(parser.parse_args(arguments).run)
    write = write_certificate_report if (folder / "certificate.json").exists() else write_report
    print(f"report: {write(folder)}")


_STAGES: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "poison-and-defend": (
        _experiment("poison-and-defend", "report"),
        "craft poisons, train with and without each defence, compare and report",
    ),
    "benchmark": (_benchmark, "several attacks on the same data, victims and setups, and one table for all"),
    "certify": (_certify, "train many voters and say how much poisoning their vote provably withstands"),
    "craft": (_experiment("craft", "craft"), "craft the poisons of an experiment and stop"),
    "sanitize": (
        sanitize,
        "noise and denoise a folder of images, an .npz or any data set, resumable, with any number of processes",
    ),
    "quality": (quality, "compare a sanitized set with what it was: PSNR, SSIM, pictures, a classifier's accuracy"),
    "recommend-sigma": (recommend_sigma, "the largest noise that costs no more accuracy than allowed, from a sample"),
    "train-denoiser": (_train_denoiser, "train a small diffusion model on public images"),
    "export-poisons": (_export, "write an experiment's poisons as the public benchmark's pickles, or as .npz"),
    "report": (_report, "make the pictures and report.html of a finished experiment or certificate again"),
}
