"""An attack of a comparison may bring public data of its own."""

import pytest
import yaml

from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.experiment import benchmark
from poison_and_defend.experiment.benchmark import Entry, run_all
from poison_and_defend.training.launch import Launch


@pytest.mark.parametrize("alike", [True, False])
def test_public_data_are_shared_where_configurations_say_the_same(experiment, tmp_path, monkeypatch, alike: bool) -> None:
    one, other = DigitsDataModule(), DigitsDataModule()
    seen = []
    monkeypatch.setattr(benchmark, "plan_experiment", lambda asked: seen.append(asked))
    monkeypatch.setattr(Launch, "start", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    texts = [yaml.safe_dump({"pretraining": {"class_path": name}}) for name in ("A", "A" if alike else "B")]
    entries = [Entry(experiment(pretraining=data), text) for data, text in zip((one, other), texts, strict=True)]
    with pytest.raises(KeyboardInterrupt):
        run_all(entries, Launch(), tmp_path / "all")
    first, second = seen
    assert first.setups.data is second.setups.data
    assert first.surrogates.pretraining is one
    assert second.surrogates.pretraining is (one if alike else other)


def test_what_one_attack_brings_is_not_taken_away_by_another_without(experiment, tmp_path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(benchmark, "plan_experiment", lambda asked: seen.append(asked))
    monkeypatch.setattr(Launch, "start", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    own = DigitsDataModule()
    entries = [Entry(experiment(), "none: yet\n"), Entry(experiment(pretraining=own), yaml.safe_dump({"pretraining": "A"}))]
    with pytest.raises(KeyboardInterrupt):
        run_all(entries, Launch(), tmp_path / "all")
    assert [asked.surrogates.pretraining for asked in seen] == [None, own]
