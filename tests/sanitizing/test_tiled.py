import shutil

import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion.batches import BatchedDenoiser
from poison_and_defend.diffusion.denoiser import Denoiser
from poison_and_defend.sanitizing.batch_size import find_batch_size
from poison_and_defend.sanitizing.tiled import Group, TiledDefense
from tests.countermeasures import rewriter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(make_unet, make_scheduler) -> Denoiser:
    return Denoiser(make_unet(channels=3), make_scheduler())


def images(n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, height, width), generator=generator, dtype=torch.uint8)


def test_bytes_do_not_depend_on_the_number_of_threads(model) -> None:
    defense = rewriter("diffusion", sigma=0.2, denoiser=model)
    groups = [Group(images(21, 8, 8), torch.arange(21)), Group(images(3, 19, 13), torch.arange(30, 33))]
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(TiledDefense(defense, batch_size=64, overlap=2)(groups))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(one.images, two.images) for one, two in zip(found[0], other, strict=True))


def test_groups_share_batches_and_come_back_in_order(model) -> None:
    defense = rewriter("diffusion", sigma=0.2, denoiser=model)
    tiled = TiledDefense(defense, batch_size=8, overlap=2)
    groups = [Group(images(3, 8, 8), torch.tensor([4, 2, 9])), Group(images(2, 11, 30), torch.tensor([1, 0]))]
    together = tiled(groups)
    for group, found in zip(groups, together, strict=True):
        assert found.images.shape == group.images.shape and found.sound.all()
        assert torch.equal(tiled([group])[0].images, found.images)


def test_the_given_model_is_left_as_it_was(model) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fingerprint = model.fingerprint
    batched = BatchedDenoiser(model, 0.2, batch_size=4, device=CPU, precision="bfloat16")
    found = batched.submit(torch.rand(3, 3, 8, 8))()
    assert found.dtype == torch.float32 and found.shape == (3, 3, 8, 8)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.fingerprint == fingerprint and next(model.unet.parameters()).dtype == torch.float32
    assert batched.model.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_is_near_single_precision(model) -> None:
    defense = rewriter("diffusion", sigma=0.2, denoiser=model)
    group = Group(images(8, 8, 8), torch.arange(8))
    exact, rough = (TiledDefense(defense, batch_size=8, precision=p)([group])[0].images for p in ("float32", "bfloat16"))
    change = (exact.int() - rough.int()).abs().float()
    assert 0 < change.mean() < 3


def test_what_overflows_in_low_precision_is_done_again_in_single(model, monkeypatch) -> None:
    defense = rewriter("diffusion", sigma=0.2, denoiser=model)
    group = Group(images(5, 8, 8), torch.arange(5))
    expected = TiledDefense(defense, batch_size=4)([group])[0].images
    original = BatchedDenoiser._evaluate

    def overflows(self: BatchedDenoiser, batch: torch.Tensor) -> torch.Tensor:
        found = original(self, batch)
        if next(self.model.unet.parameters()).dtype == torch.bfloat16:
            found[1:] = float("inf")
        return found

    monkeypatch.setattr(BatchedDenoiser, "_evaluate", overflows)
    found = TiledDefense(defense, batch_size=4, precision="bfloat16")([group])[0]
    assert found.sound.all()
    assert torch.equal(found.images[1:4], expected[1:4]) and not torch.equal(found.images[0], expected[0])


def test_an_image_that_never_gives_numbers_is_marked(model, monkeypatch) -> None:
    original = BatchedDenoiser._evaluate

    def broken(self: BatchedDenoiser, batch: torch.Tensor) -> torch.Tensor:
        found = original(self, batch)
        found[batch.mean(dim=(1, 2, 3)) > 0.9] = float("nan")
        return found

    monkeypatch.setattr(BatchedDenoiser, "_evaluate", broken)
    some = images(4, 8, 8)
    some[2] = 255
    found = TiledDefense(rewriter("diffusion", sigma=0.1, denoiser=model), batch_size=4)([Group(some, torch.arange(4))])[0]
    assert found.sound.tolist() == [True, True, False, True]


@pytest.mark.parametrize("name", ["noise_only", "jpeg"])
def test_defences_without_a_denoiser_are_what_they_were(name) -> None:
    defense, group = rewriter(name, sigma=0.2), Group(images(3, 11, 9), torch.arange(3))
    assert torch.equal(TiledDefense(defense, batch_size=2)([group])[0].images, defense(*group))


def test_overlap_and_batch_size_are_checked(model) -> None:
    defense = rewriter("diffusion", denoiser=model)
    assert TiledDefense(defense, batch_size=1).overlap == 2
    with pytest.raises(InputError, match=r"overlap is 8: for tiles of 8 x 8 it is 0 to 7 \(--overlap\)"):
        TiledDefense(defense, batch_size=1, overlap=8)
    for one in (defense, rewriter("jpeg")):
        with pytest.raises(InputError, match="batch_size is 0"):
            TiledDefense(one, batch_size=0)


def test_the_batch_size_doubles_while_that_pays_and_stops_before_memory_is_full(model, monkeypatch) -> None:
    from poison_and_defend.sanitizing import batch_size as module

    rates = {32: 100.0, 64: 180.0, 128: 300.0, 256: 310.0}
    tried = []

    def rate(batched: BatchedDenoiser) -> float:
        tried.append(batched.batch_size)
        return rates[batched.batch_size]

    monkeypatch.setattr(module, "_rate", rate)
    options = {"precision": "float32", "compiled": False}
    assert find_batch_size(model, 0.2, CPU, **options) == 128 and tried == [32, 64, 128, 256]

    def full(batched: BatchedDenoiser) -> float:
        if batched.batch_size > 64:
            raise torch.cuda.OutOfMemoryError
        return rates[batched.batch_size]

    monkeypatch.setattr(module, "_rate", full)
    assert find_batch_size(model, 0.2, CPU, **options) == 64


def test_speed_is_measured_on_the_model_itself(model) -> None:
    from poison_and_defend.sanitizing.batch_size import _rate

    assert _rate(BatchedDenoiser(model, 0.2, batch_size=4, device=CPU)) > 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_gives_what_the_model_gives(model) -> None:
    noisy = torch.rand(6, 3, 8, 8)
    plain, compiled = (BatchedDenoiser(model, 0.2, batch_size=4, device=CPU, compiled=c) for c in (False, True))
    assert torch.allclose(plain.submit(noisy)(), compiled.submit(noisy)(), atol=1e-4)
