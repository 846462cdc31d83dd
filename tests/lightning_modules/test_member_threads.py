import pytest
import torch

from lightning_modules.backbones import build_backbone
from lightning_modules.ensemble import EnsembleData, EnsembleModule
from lightning_modules.recipe import Recipe
from tests.lightning_modules.fitting import Few, fit


def trained(backbone: str, fast: bool, threads: int = 2) -> EnsembleModule:
    split, recipe = Few().split("train"), Recipe(epochs=3, batch_size=20, learning_rate=0.02, max_shift=0.1)
    rows = torch.stack([torch.arange(48).roll(i)[:40] for i in range(3)])

    def build(seed):
        return build_backbone(backbone, in_channels=1, num_classes=10, seed=seed)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        module = EnsembleModule(
            build, [3, 5, 11], EnsembleData(split.images, split.labels, rows), recipe, fast_convolutions=fast
        )
        return fit(module, recipe.epochs)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("backbone", ["convnet", "patchnet", "resnet18_slim"])
def test_members_on_threads_learn_what_members_in_turn_learn(backbone):
    fast, slow = trained(backbone, True), trained(backbone, False)
    start = build_backbone(backbone, in_channels=1, num_classes=10, seed=5).state_dict()
    for name, value in slow.member_state(1).items():
        moved = (value.float() - start[name].float()).abs().max().item()
        torch.testing.assert_close(fast.member_state(1)[name], value, rtol=1e-3, atol=2e-4 * moved + 1e-6)
    assert max((slow.member_state(1)[n].float() - v.float()).abs().max().item() for n, v in start.items()) > 1e-2
    images = Few().split("test").images
    assert (fast.member_predictions(images) == slow.member_predictions(images)).float().mean() > 0.95


def test_the_number_of_threads_does_not_matter():
    one, two = trained("convnet", True, threads=1), trained("convnet", True, threads=2)
    for name, value in one.member_state(2).items():
        assert torch.equal(two.member_state(2)[name], value), name
