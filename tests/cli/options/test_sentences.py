"""Whatever is wrong with an option is said in one line, in words of whoever typed it."""

import re
import sys

import pytest

from poison_and_defend.cli import main as cli

FILES = {
    "broken.yaml": b"a: [1\nb: {",
    "tabs.yaml": b"a:\n\tb: 1\n",
    "list.yaml": b"- 1\n- 2\n",
    "word.yaml": b"hello\n",
    "empty.yaml": b"",
    "binary.yaml": bytes(range(256)),
    "deep.yaml": b"[" * 5000,
    "unknown.yaml": b"sigmma: 1\n",
    "arm.yaml": b"arms:\n  mine:\n    class_path: Jpeg\n    init_args:\n      qualty: 3\n",
    "no_python.py": b"x = (\n",
    "own_code.py": b"""from poison_and_defend.defenses import Rewriter


class Nameless(Rewriter):
    def __call__(self, images, keys, draws=None):
        return images


class Wants(Nameless):
    name = "wants"

    def __init__(self, bits: int) -> None:
        self.bits = bits
""",
    "nested.yaml": b"attack:\n  class_path: BullseyePolytope\n  init_args:\n    epss: 1\n",
    "kind.yaml": b"num_setups: many\n",
    "fit_unknown.yaml": b"modell: ClassifierModule\n",
    "fit_address.yaml": b"model: ClassifierModule\ndata: DigitsDataModule\nckpt_path: http://127.0.0.1:9/evil.ckpt\n",
}
RUN, FIT = "poison-and-defend", "fit --model=ClassifierModule --data=DigitsDataModule"
DENOISER = "train-denoiser --out=x --data.source=DigitsDataModule"

# What is typed, and what the sentence says.
CASES = {
    f"{RUN} --sigmma=1": "there is no option --sigmma: did you mean --sigma 0.25",
    f"{RUN} --sigma=abc": "sigma is 'abc': write a number of at least 0, or a fraction such as 25/255 \\(--sigma\\)",
    f"{RUN} --sigma": "--sigma needs a value, for example --sigma",
    f"{RUN} --num_setups=2.5": "--num_setups is '2.5': it takes a whole number",
    f"{RUN} --num_setups=": "--num_setups is ''",
    f"{RUN} --scenario=transfr": "one of transfer, fine_tune, from_scratch, for example --scenario transfer",
    f"{RUN} --data=Foo": "--data is 'Foo'.*DataModule",
    f"{RUN} --data=foo.bar.Baz": r"foo.bar.Baz cannot be imported: ModuleNotFoundError: No module named 'foo' \(--data\)",
    f"{RUN} --data=ArrayDataModule": "--data is ArrayDataModule, which is abstract",
    f"{RUN} --data=ArraysDataModule": "--data.test and --data.train must be given",
    f"{RUN} --data.rooot=1": "there is no option --data.rooot of DigitsDataModule",
    f"{RUN} --data.init_args.batch_size=x": "--data.batch_size is 'x': it takes a whole number",
    f"{RUN} --attack=Foo": "--attack is 'Foo'.*BullseyePolytope",
    f"{RUN} --attack=ClassifierModule": "--attack is 'ClassifierModule'",
    f"{RUN} --attack.epss=1": "--attack.epss of BullseyePolytope: did you mean --attack.eps ",
    f"{RUN} --attack.eps=[1]": r"--attack.eps is '\[1\]': it takes a number or text",
    f"{RUN} --attack.trigger.size=4": "there is no option --attack.trigger.size of BullseyePolytope",
    f"{RUN} --defenses=difusion": r"'difusion' is not a countermeasure: did you mean diffusion\? \(--defenses\)",
    f"{RUN} --arms.jpeg.qualty=3": r"there is no option --arms.jpeg.qualty.*quality",
    f"{RUN} --arms.nothing.quality=3": r"there is no arm nothing.*--defenses.*\(--arms.nothing.quality\)",
    f"{RUN} --arms.jpeg.quality=x": r"--arms.jpeg.quality is 'x': it takes a whole number",
    f"{RUN} --arms.jpeg.quality=300": r"quality is 300: it is 1 to 95 .*--arms.jpeg.quality",
    f"{RUN} --defenses=[jpeg+mixup] --arms.jpeg+mixup.mixup.alpha=x": r"jpeg\+mixup.mixup.alpha is 'x': it takes a number",
    f"{RUN} --defenses=[jpeg+mixup] --arms.jpeg+mixup.mixup.alfa=1": r"--arms.jpeg\+mixup.mixup.alfa of Mixup: did you "
    r"mean --arms.jpeg\+mixup.mixup.alpha",
    f"{RUN} --defenses=[mixup+jpeg]": r"mixup\+jpeg has rewriters after training recipes: the order .*--defenses",
    f"{RUN} --defenses=[partition+partition]": r"partition\+partition has 2 votes: .*at most one vote.*--defenses",
    f"{RUN} --defenses=[spectral_signatures] --poisons_told=400": r"drop 600 rows of each class and class 0 .*--poisons_told",
    f"{RUN} --defenses=[characteristic_vectors]": r"convnet has no batch normalization.*--network, --victims",
    f"{RUN} --defenses=[deep_knn] --poisons_told=400": r"deep_knn asks 800 neighbours, twice the 400 .*--poisons_told",
    f"{RUN} --defenses=[deep_knn] --arms.deep_knn.k=0": r"k is 0: at least 1 neighbour votes .*--arms.deep_knn.k",
    f"{RUN} --defenses=[activation_clustering] --arms.activation_clustering.rule=sise": r"activation_clustering.rule is 'sise'",
    f"{RUN} --defenses=[no_such_module.Foo]": r"no_such_module.Foo cannot be imported: .*--arms.Foo, --def",
    f"{RUN} --defenses=[collections.OrderedDict]": r"OrderedDict is no countermeasure: a subclass.*--defenses",
    f"{RUN} --defenses=[poison_and_defend.defenses.Rewriter]": r"is abstract: it does not define __call__ .*--defenses",
    f"{RUN} --config=arm.yaml": r"there is no option --arms.mine.qualty of Jpeg: did you mean --arms.mine.quality",
    f"{RUN} --defenses=[own_code.Nameless]": r"Nameless in the arm Nameless has no name for its records.*\(--arms.Nameless\)",
    f"{RUN} --defenses=[own_code.Wants]": r"--arms.Wants.bits must be given, for example --arms.Wants.bits 8",
    f"{RUN} --defenses=[no_python.Foo]": r"no_python.Foo cannot be imported: SyntaxError.*\(--arms.Foo, --defenses\)",
    f"{RUN} --victim_recipe.epoch=3": "there is no option --victim_recipe.epoch: did you mean --victim_recipe.epochs",
    f"{RUN} --victim_recipe.epochs=0": r"epochs of a recipe is 0.*--\*recipe.epochs",
    f"{RUN} --victim_recipe=3": "--victim_recipe is '3'",
    f"{RUN} --trainer=foo": "--trainer is 'foo'.*--trainer.accelerator auto",
    f"{RUN} --trainer.devices=x": "devices is 'x'.*--trainer.devices 1",
    f"{RUN} stray": "'stray' is no option",
    f"{RUN} --config": "--config needs a value, for example --config FILE.yaml",
    f"{RUN} --config=/nowhere.yaml": "/nowhere.yaml cannot be read: there is no such file .*--config",
    f"{RUN} --config=.": r"cannot be read: it is a folder.*--config",
    f"{RUN} --config=broken.yaml": "no YAML at line 2, column 2 .*--config",
    f"{RUN} --config=tabs.yaml": "no YAML at line 2.*--config",
    f"{RUN} --config=list.yaml": "no mapping of options.*--config",
    f"{RUN} --config=word.yaml": "no mapping of options.*--config",
    f"{RUN} --config=empty.yaml": "no mapping of options.*--config",
    f"{RUN} --config=binary.yaml": "no text.*--config",
    f"{RUN} --config=deep.yaml": "--config",
    f"{RUN} --config=unknown.yaml": "--sigmma: did you mean --sigma",
    f"{RUN} --config=nested.yaml": "--attack.epss of BullseyePolytope",
    f"{RUN} --config=kind.yaml": "--num_setups is 'many'",
    "benchmark --name": "--name needs a value",
    "benchmark --name=x --sigmma=1": "--sigmma: did you mean --sigma",
    "certify --k=x": "--k is 'x': it takes a list of whole numbers",
    "certify --modelss=1": "did you mean --models",
    "sanitize": "--out must be given",
    "sanitize --data.rooot=x --out=y": "--data.rooot: did you mean --data.root",
    "sanitize --data.root=x --out=y --batch_size=x": "--batch_size is 'x': it takes a whole number or null",
    "sanitize --data.source=Foo --out=y": "--data.source is 'Foo'.*DataModule",
    "sanitize --verify": "--verify needs a value",
    "sanitize --verify=x --foo=1": "there is no option --foo",
    "quality": "--data.root and --sanitized must be given",
    "recommend-sigma --data.root=. --sigmas=[a]": r"sigma is 'a': write a number of at least 0, or a fraction .*--sigmas",
    "quality --root=x --sanitized=y": "there is no option --root any more: it is --data.root",
    "recommend-sigma --root=x --sigmas=[.1]": "there is no option --root any more: it is --data.root",
    "quality --data.root=x --sanitized=y --limit=3": "there is no option --limit any more: it is --sample 8",
    DENOISER + " --model.channels=x": "--model.channels is 'x': it takes a list of whole numbers or null",
    DENOISER + " --trainer.max_epoch=1": "did you mean --trainer.max_epochs",
    DENOISER + " --trainer.logger=Foo": "--trainer.logger is 'Foo'.*CSVLogger",
    DENOISER + " --trainer.default_root_dir=s3://a/b": "trainer.default_root_dir is 's3://a/b', an address",
    "export-poisons --run=x": "--out must be given",
    "report x": "'x' is no option",
    "fit": "--data and --model must be given",
    "fit --model=Foo --data=DigitsDataModule": "--model is 'Foo'.*ClassifierModule",
    "fit --model=http://127.0.0.1:9/m.yaml --data=DigitsDataModule": "--model is 'http:",
    "fit --config=http://127.0.0.1:9/c.yaml": "is an address.*--config",
    "fit --config=fit_unknown.yaml": "--modell: did you mean --model",
    "fit --config=fit_address.yaml": "ckpt_path is 'http://127.0.0.1:9/evil.ckpt', an address.*--ckpt_path",
    "fit --model=ClassifierModule --data=PoisonedDataModule": "--data.poisons and --data.source must be given",
    f"{RUN} --backbone=vgg11": "there is no option --backbone any more: it is --network convnet",
    FIT + " --model.netwrk=convnet": "--model.netwrk of ClassifierModule: did you mean --model.network",
    FIT + " --model.recipe.epochs=x": "--model.recipe.epochs is 'x': it takes a whole number",
    FIT + " --data.batch_size=x": "--data.batch_size is 'x': it takes a whole number",
    FIT + " --trainer.callbacks=Foo": "--trainer.callbacks is 'Foo'",
    FIT + " --trainer.precision=7": "--trainer.precision is '7': it takes one of",
    FIT + " --trainer.max_epochs=-7": "max_epochs.*--trainer",
    FIT + " --ckpt_path": "--ckpt_path needs a value",
    FIT + " --weights_only=foo": "--weights_only is 'foo': it takes true or false or null",
    "predict" + FIT[3:] + " --return_predictions=x": "--return_predictions is 'x'",
    "validate" + FIT[3:] + " --foo": "there is no option --foo",
    "fitt": "there is no command 'fitt': did you mean fit",
    "--sigma=1": "there is no command '--sigma=1': choose from",
}


@pytest.mark.parametrize("typed", CASES)
def test_a_wrong_option_is_one_line_with_the_option(typed, tmp_path, monkeypatch, capsys) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    # Found in the folder of an earlier case, or not looked for again since.
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("own_code", "no_python"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    status = cli.main(typed.split())
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert status == 2 and line.startswith("error: ") and not printed.out
    assert re.search(CASES[typed], line), line
    internal = (
        r"Namespace\(|class_path|init_args|<class|Parser key|typing\.|Traceback|NestedArg|usage:|(jsonargparse|lightning)\."
    )
    assert not re.search(internal, line.replace(typed.split()[-1].partition("=")[0], "")), line
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == set(FILES)


@pytest.mark.parametrize("command", [RUN, "fit", "train-denoiser"])
def test_no_configuration_is_fetched_from_an_address(command, capsys) -> None:
    import fsspec

    # One that can be had without a network; a class that is not there shows whether it was read.
    fsspec.filesystem("memory").pipe("/c.yaml", b"data: Fetched\n")
    assert cli.main([command, "--config=memory://c.yaml"]) == 2
    printed = capsys.readouterr().err
    assert "--config" in printed and "Fetched" not in printed
