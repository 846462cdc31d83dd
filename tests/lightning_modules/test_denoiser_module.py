import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.datamodules.wrappers.public import PublicDataModule
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.images.arrays import Split
from poison_and_defend.images.row_digests import read_training_rows, row_digests
from poison_and_defend.lightning_modules.denoiser import DenoiserModule
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.training.denoiser import train_denoiser
from tests.lightning_modules.fitting import quiet_trainer


def small(**kwargs):
    return DenoiserModule(channels=[8, 16], groups=4, warmup=10, ema_decay=0.9, learning_rate=3e-3, **kwargs)


def trainer(steps):
    return quiet_trainer(max_steps=steps, limit_val_batches=1, num_sanity_val_steps=0, check_val_every_n_epoch=1000)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_training_learns_to_denoise(tmp_path, prediction):
    module = small(prediction=prediction, max_sigma=0.5)
    data = PublicDataModule(DigitsDataModule(), batch_size=16)
    out = train_denoiser(module, data, trainer(60), str(tmp_path / "model"), half=True)
    denoiser = load_denoiser(str(out))
    clean = DigitsDataModule().split("test").images[:64].float() / 255
    noisy = clean + 0.25 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    before = (noisy.clamp(0, 1) - clean).square().mean()
    after = (denoiser(noisy, 0.25) - clean).square().mean()
    assert after < 0.7 * before


class Smaller(DigitsDataModule):
    """Digits of 28 x 28."""

    image_shape = (1, 28, 28)


def test_sides_that_the_levels_do_not_divide_are_trained_on_and_used(tmp_path):
    torch.manual_seed(0)
    options = {"groups": 4, "warmup": 10, "ema_decay": 0.9, "learning_rate": 3e-3}
    module = DenoiserModule(size=28, channels=[8, 8, 16, 16], max_sigma=0.5, **options)
    out = train_denoiser(module, PublicDataModule(Smaller(), batch_size=16), trainer(60), str(tmp_path / "model"), half=True)
    denoiser = load_denoiser(str(out))
    assert denoiser.size == (28, 28)
    clean = Smaller().split("test").images[:64].float() / 255
    noisy = clean + 0.25 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        left = (denoiser(noisy, 0.25) - clean).square().mean((0, 1))
    before = (noisy.clamp(0, 1) - clean).square().mean()
    # The border, beside which the network sees a mirror, is no worse than the rest.
    assert left.mean() < 0.7 * before and left[[0, -1]].mean() < 0.7 * before and left[:, [0, -1]].mean() < 0.7 * before


def test_the_noise_that_a_model_was_trained_on_goes_with_it(tmp_path):
    module = small(max_sigma="25/255", val_sigma="12.75/255")
    assert module.val_sigma == 0.05 and module.denoiser().trained == 25 / 255
    module.export(tmp_path / "some")
    assert load_denoiser(str(tmp_path / "some")).trained == 25 / 255
    small().export(tmp_path / "all")
    assert load_denoiser(str(tmp_path / "all")).trained is None


def test_the_same_seed_gives_the_same_weights(tmp_path):
    states = []
    for number in range(2):
        torch.manual_seed(number)
        module = small(seed=3)
        trainer(3).fit(module, PublicDataModule(DigitsDataModule(), batch_size=8))
        states.append(module.average.module.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_only_public_images_are_trained_on():
    data = PublicDataModule(DigitsDataModule())
    public = DigitsDataModule().split("public")
    assert torch.equal(data.split("train").images, public.images)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_features_are_those_of_the_image_that_a_prediction_stands_for(prediction) -> None:
    module = small(prediction=prediction, max_sigma=0.5, features=Network("patchnet"), feature_weight=3.0)
    module.unet.requires_grad_(False)
    images = DigitsDataModule().split("test").images[:8]
    clean = images.float() / 127.5 - 1
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    time = 20
    total, parts = module.objective(clean, noise, torch.full((8,), time))
    noisy = module.scheduler.add_noise(clean, noise, torch.full((8,), time))
    # As the defence does it: the same state, one step.
    estimate = module.denoiser().parametrization.estimate(lambda state, at: module.unet(state, at).sample, noisy, time)
    expected = module.feature_loss((estimate.clamp(-1, 1) + 1) / 2, (clean + 1) / 2)
    torch.testing.assert_close(parts["feature_loss"], expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(total, parts["loss"] + 3 * parts["feature_loss"])


def test_features_that_count_most_are_what_is_learned() -> None:
    clean = DigitsDataModule().split("test").images[:16].float() / 127.5 - 1
    noise, times = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)), torch.full((16,), 40)
    seen = []
    for weight in (1e-6, 100.0):
        module = small(max_sigma=0.5, features=Network("patchnet"), feature_weight=weight)
        optimizer = torch.optim.Adam(module.unet.parameters(), lr=3e-3)
        # Early, where the two are far apart; later either wanders, otherwise on each kind of CPU.
        for _ in range(11):
            loss, parts = module.objective(clean, noise, times)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seen.append(parts["feature_loss"].item())
    assert seen[1] < 0.6 * seen[0]


def test_images_are_mirrored_half_of_the_time() -> None:
    module = small(flip=True)
    module.log = lambda *args, **options: None
    module._trainer = None
    seen = []
    module.objective = lambda clean, noise, times: (seen.append(clean), (clean.sum(), {}))[1]
    images = torch.zeros(400, 1, 32, 32, dtype=torch.uint8)
    images[..., 0] = 255
    module.training_step((images, torch.zeros(400)), 0)
    mirrored = (seen[0][:, 0, 0, -1] > 0).float()
    assert 0.4 < mirrored.mean() < 0.6
    assert torch.equal((seen[0][:, 0, 0, 0] > 0).float(), 1 - mirrored)


def test_training_goes_on_from_a_denoiser_and_remembers_what_it_had_seen(tmp_path) -> None:
    data = PublicDataModule(DigitsDataModule(), batch_size=32)
    first = train_denoiser(small(max_sigma=0.5), data, trainer(2), str(tmp_path / "first"), half=False)
    begun = small(max_sigma=0.5, seed=9, begin_with=str(first))
    state = load_denoiser(str(first)).unet.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in begun.unet.state_dict().items())
    assert all(torch.equal(value, state[name]) for name, value in begun.average.module.state_dict().items())
    other = PublicDataModule(Mirrored(), batch_size=32)
    second = train_denoiser(begun, other, trainer(2), str(tmp_path / "second"), half=False)
    seen = read_training_rows(second)
    assert set(seen) == set(row_digests(data.split("train").images)) | set(row_digests(other.split("train").images))


class Mirrored(DigitsDataModule):
    """Digits in a mirror."""

    def load(self, name):
        split = super().load(name)
        return Split(split.images.flip(-1).contiguous(), split.labels)


def test_a_denoiser_to_begin_with_must_be_of_the_same_network_and_say_what_it_saw(tmp_path) -> None:
    with pytest.raises(InputError, match=r"conv_in\.bias of digits is of shape .*\(--model\.begin_with\)"):
        small(begin_with="digits")
    with pytest.raises(InputError, match=r"digits estimates epsilon, this network sample: .*--model\.prediction"):
        small(begin_with="digits", prediction="sample")
    with pytest.raises(InputError, match=r"nowhere.*\(--model\.begin_with\)$"):
        small(begin_with=str(tmp_path / "nowhere"))
    small(max_sigma=0.5).export(tmp_path / "unknown")
    begun = small(max_sigma=0.5, begin_with=str(tmp_path / "unknown"))
    data = PublicDataModule(DigitsDataModule(), batch_size=32)
    with pytest.raises(InputError, match=r"has no record of the images.*--model\.begin_with"):
        train_denoiser(begun, data, trainer(1), str(tmp_path / "new"), half=False)
    assert not (tmp_path / "new").exists()


def test_bad_requests_are_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="multiple of groups"):
        DenoiserModule(channels=[10, 20])
    data = PublicDataModule(DigitsDataModule())
    with pytest.raises(InputError, match=r"exists.*--out"):
        train_denoiser(small(), data, trainer(1), str(tmp_path), half=False)
    with pytest.raises(InputError, match="takes images of shape"):
        train_denoiser(small(in_channels=3), data, trainer(1), str(tmp_path / "new"), half=False)
    for bad in (1000.0, 25, "much", -1, 0, "0/255"):
        with pytest.raises(InputError, match=r"sigma is .*--model\.max_sigma"):
            small(max_sigma=bad)
    for bad in (0, 0.6, 3):
        with pytest.raises(InputError, match=r"min_sigma is .*--model\.min_sigma"):
            small(noise_levels="log_uniform", max_sigma=0.5, min_sigma=bad)
    with pytest.raises(InputError, match=r"feature_weight is 0.*--model\.feature_weight"):
        small(features=Network("patchnet"), feature_weight=0.0)
    with pytest.raises(InputError, match=r"'nothing' is no layer.*--model\.features\.layers"):
        small(features=Network("torchvision:mobilenet_v3_small", layers=["nothing"]))
    for bad in (25, "much", -1):
        with pytest.raises(InputError, match=r"sigma is .*--model\.val_sigma"):
            small(val_sigma=bad)
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_denoiser_denoises_images_it_has_never_seen():
    denoiser = load_denoiser("poison_and_defend/pretrained/digits")
    test = DigitsDataModule().split("test").images[:128].float() / 255
    noisy = test + 0.25 * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        error = (denoiser(noisy, 0.25) - test).square().mean().sqrt().item()
    assert error < 0.06  # the noise is 0.25; clipped to [0, 1] it is still 0.2
