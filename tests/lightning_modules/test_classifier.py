import lightning as L
import pytest
import torch
from safetensors.torch import save_file

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.lightning_modules.classifier import ClassifierModule
from poison_and_defend.lightning_modules.denoiser import DenoiserModule
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.lightning_modules.fitting import Few, quiet_trainer


def test_a_classifier_learns_digits():
    recipe = Recipe(epochs=12, batch_size=64)
    trainer = L.Trainer(
        max_epochs=12, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    data = DigitsDataModule(batch_size=64)
    module = ClassifierModule(Network("convnet"), recipe=recipe)
    trainer.fit(module, data)
    (result,) = trainer.test(module, data, verbose=False)
    assert result["test/accuracy"] > 0.93
    predicted = module.member_predictions(data.split("test").images)[0]
    assert result["test/accuracy"] == pytest.approx((predicted == data.split("test").labels).float().mean().item())


def test_a_frozen_body_is_neither_trained_nor_put_in_training_mode(tmp_path):
    net = build_network("convnet_wide", in_channels=1, num_classes=10, seed=1)
    save_file(net.state_dict(), tmp_path / "f.safetensors")
    module = ClassifierModule(Network("convnet_wide"), features=str(tmp_path / "f.safetensors")).train()
    assert not module.net.body.training and module.net.head.training
    assert [n for n, p in module.named_parameters() if p.requires_grad] == ["net.head.weight", "net.head.bias"]


def test_weights_that_do_not_fit_are_refused(tmp_path):
    net = build_network("patchnet", in_channels=1, num_classes=10, seed=1)
    save_file(net.state_dict(), tmp_path / "patchnet.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "patchnet.safetensors").read_bytes()[:999])
    for name in ("patchnet", "cut", "missing"):
        with pytest.raises(InputError, match=r"(no weights of this network|cannot read .*missing).*--model.features"):
            ClassifierModule(Network("convnet"), features=str(tmp_path / f"{name}.safetensors"))


def test_unknown_networks_and_bad_recipes_are_refused():
    with pytest.raises(InputError, match="choose from convnet"):
        ClassifierModule(Network("transformer"))
    with pytest.raises(InputError, match="epochs of a recipe is 0"):
        Recipe(epochs=0)
    with pytest.raises(InputError, match="learning_rate of a recipe is -1"):
        Recipe(learning_rate=-1)


def test_the_schedule_falls_at_its_milestones():
    recipe = Recipe(epochs=40, learning_rate=0.1, milestones=[0.35, 0.6, 0.875])
    optimizer = recipe.build_optimizer([torch.nn.Parameter(torch.zeros(1))])
    scheduler = recipe.build_scheduler(optimizer)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    falls = [epoch for epoch in range(1, 40) if rates[epoch] < rates[epoch - 1]]
    assert falls == [14, 24, 35] and rates[-1] == pytest.approx(1e-4)


@pytest.mark.parametrize("kind", [ClassifierModule, DenoiserModule])
def test_lightning_finds_the_learning_rate_and_sets_it(kind, tmp_path):
    from lightning.pytorch.callbacks import LearningRateFinder

    model = kind(num_classes=10, in_channels=1) if kind is ClassifierModule else kind(channels=[8, 16])
    shared = model.recipe if kind is ClassifierModule else None
    finder = LearningRateFinder(num_training_steps=20, early_stop_threshold=None)
    quiet_trainer(max_epochs=1, limit_val_batches=0, default_root_dir=tmp_path, callbacks=[finder]).fit(
        model, Few(batch_size=2)
    )
    suggested = finder.optimal_lr.suggestion()
    assert suggested and model.learning_rate == suggested
    if shared is not None:
        assert model.recipe.learning_rate == suggested and shared.learning_rate == Recipe().learning_rate
        assert model.configure_optimizers()["optimizer"].defaults["lr"] == suggested
    assert not list(tmp_path.glob(".lr_find*"))


def test_lightning_finds_a_batch_size(tmp_path):
    from lightning.pytorch.callbacks import BatchSizeFinder

    data = DigitsDataModule(batch_size=16)
    finder = BatchSizeFinder(init_val=16, max_trials=2, steps_per_trial=1)
    trainer = quiet_trainer(max_epochs=1, limit_val_batches=0, default_root_dir=tmp_path, callbacks=[finder])
    trainer.fit(ClassifierModule(num_classes=10, in_channels=1), data)
    assert data.batch_size == finder.optimal_batch_size > 16
