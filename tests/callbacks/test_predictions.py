import csv

import pytest
import torch

from poison_and_defend.callbacks.predictions import PredictionFile
from poison_and_defend.cli.dispatch import dispatch
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.lightning_modules import ClassifierModule
from tests.lightning_modules.fitting import quiet_trainer


def read(path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_every_test_image_has_one_line_with_its_class(tmp_path) -> None:
    data, model = DigitsDataModule(), ClassifierModule(num_classes=10, in_channels=1)
    trainer = quiet_trainer(callbacks=[PredictionFile(tmp_path / "p.csv")])
    trainer.predict(model, data, return_predictions=False)
    test, rows = data.split("test"), read(tmp_path / "p.csv")
    model.eval()
    with torch.no_grad():
        expected = model(test.images).argmax(1)
    assert [int(row["row"]) for row in rows] == list(range(len(test)))
    assert [int(row["label"]) for row in rows] == test.labels.tolist()
    assert [int(row["predicted"]) for row in rows] == expected.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


class Sayings(ClassifierModule):
    def predict_step(self, batch, batch_idx):
        return {"what": "ever"}


def test_a_model_that_predicts_something_else_is_refused(tmp_path) -> None:
    trainer = quiet_trainer(callbacks=[PredictionFile(tmp_path / "p.csv")])
    with pytest.raises(InputError, match="Sayings predicts neither classes nor their scores"):
        trainer.predict(Sayings(num_classes=10, in_channels=1), DigitsDataModule(), return_predictions=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "out", "message"),
    [
        ("ClassifierModule", None, r"name it, for example --out predictions.csv \(--out\)"),
        ("ClassifierModule", "there.csv", r"there.csv exists.*\(--out\)"),
        ("ClassifierModule", "there.csv/p.csv", r"cannot write to .*there.csv.*\(--out\)"),
        ("DenoiserModule", "p.csv", "DenoiserModule has no classes to predict"),
    ],
)
def test_bad_input_of_predict(model, out, message, tmp_path) -> None:
    (tmp_path / "there.csv").write_text("precious")
    given = [] if out is None else [f"--out={tmp_path / out}"]
    quiet = ["--trainer.logger=false", "--trainer.accelerator=cpu"]
    with pytest.raises(InputError, match=message):
        dispatch(["predict", f"--model={model}", "--data=DigitsDataModule", *quiet, *given])
    assert (tmp_path / "there.csv").read_text() == "precious" and len(list(tmp_path.iterdir())) == 1
