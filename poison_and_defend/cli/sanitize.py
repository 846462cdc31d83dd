"""The commands around a sanitized set; what they need is imported when one is given."""

from pathlib import Path

from poison_and_defend.cli.parsing import CommandParser, OneSentence, parse_task


def sanitize(arguments: list[str]) -> None:
    """``sanitize``, and ``sanitize --verify``."""
    from poison_and_defend.cleaning.run import sanitize_alone
    from poison_and_defend.cleaning.task import SanitizeTask
    from poison_and_defend.training.launch import Launch

    own = OneSentence(add_help=False, allow_abbrev=False)
    own.add_argument("--verify")
    asked, _ = own.parse_known_args(arguments)
    if asked.verify is not None:
        _verify(arguments)
        return
    kind: type[SanitizeTask] = SanitizeTask
    # A folder needs none of the data sets, which take longer to import than a thousand images to sanitize.
    if any("source" in argument or argument.startswith(("--config", "--print", "--help", "-h")) for argument in arguments):
        import poison_and_defend.datamodules  # noqa: F401
        from poison_and_defend.cleaning.data_task import SanitizeDataTask

        kind = SanitizeDataTask
    task, launch = parse_task("sanitize", "noise and denoise a set of images", kind, arguments, Launch)
    sanitize_alone(task, launch)


def _verify(arguments: list[str]) -> None:
    from poison_and_defend.core.progress import StoreProgress
    from poison_and_defend.core.reading.files import plain
    from poison_and_defend.storage.targets import digest_set
    from poison_and_defend.storage.verify import verify

    parser = CommandParser(prog="cli.py sanitize", description="prove that a sanitized set is complete and unchanged")
    parser.add_argument("--verify", type=str, required=True, help="folder or .npz that sanitize wrote")
    parser.add_argument("--data.root", type=str, default=None, help="folder the images came from, to be compared too")
    parser.add_argument("--expect", type=str, default=None, help="digest that was printed when the set was made")
    given = parser.parse_args(arguments)
    with StoreProgress("verify") as bar:
        root = None if given.data.root is None else Path(given.data.root)
        manifest = verify(Path(given.verify), bar, root, given.expect)
    text = f"{given.verify} is complete and unchanged: {manifest['sanitized']} images sanitized"
    print(text + (f", {manifest['copied']} copied, {manifest['skipped']} skipped" if manifest["not_sanitized"] else ""))
    if manifest["lost_classes"]:
        print(f"no image of the classes {', '.join(map(plain, manifest['lost_classes']))} could be sanitized")
    unproved = "" if given.expect else "; compare it with the one printed when the set was made (--expect DIGEST)"
    print(f"digest {digest_set(manifest)}{unproved}")


def quality(arguments: list[str]) -> None:
    """``quality``."""
    from poison_and_defend.cleaning.quality import QualityTask, run_quality

    run_quality(parse_task("quality", "compare a sanitized set with what it was", QualityTask, arguments)[0])


def recommend_sigma(arguments: list[str]) -> None:
    """``recommend-sigma``."""
    from poison_and_defend.cleaning.recommend_sigma import RecommendTask, run_recommend

    run_recommend(parse_task("recommend-sigma", "how much noise a set of images bears", RecommendTask, arguments)[0])
