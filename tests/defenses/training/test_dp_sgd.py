import math

import pytest
import torch
from torch.nn import functional

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import DPSGD, Chain, GradientShaping, Mixup, Run, SpectralSignatures
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.experiment.task.recipes import facts_of
from poison_and_defend.lightning_modules.classifier import ClassifierModule, fresh_head
from poison_and_defend.lightning_modules.ensemble import EnsembleModule
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.lightning_modules.row_gradients import head_row_gradients, network_row_gradients
from tests.defenses.training.together import accuracy, assert_equals_alone, assert_equals_single, build, random_step
from tests.lightning_modules.fitting import Few, fit


def test_two_rows_of_norms_a_half_and_ten_are_averaged_after_clipping() -> None:
    norms = torch.tensor([0.5, 10.0])
    gradients = torch.tensor([[0.3, 0.4], [6.0, -8.0]])
    clipped = (DPSGD(1.0, 0.0).row_factors(norms)[:, None] * gradients).mean(0)
    torch.testing.assert_close(clipped, (gradients[0] + gradients[1] / 10) / 2)
    assert DPSGD(4.0, 0.0).row_factors(norms).tolist() == pytest.approx([1.0, 0.4])


def one_by_one(model, images, labels, clip: float):
    """Clipped gradients by as many backward passes as there are rows."""
    total = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for image, label in zip(images, labels, strict=True):
        model.zero_grad()
        functional.cross_entropy(model(image[None]), label[None]).backward()
        length = torch.cat([value.grad.flatten() for value in model.parameters()]).norm()
        for name, value in model.named_parameters():
            total[name] += value.grad * min(1.0, clip / float(length)) / len(images)
    return total


@pytest.mark.parametrize("name", ["convnet", "patchnet"])
def test_rows_are_clipped_as_one_by_one_and_as_by_opacus(name: str) -> None:
    from opacus import GradSampleModule

    split = Few().split("train")
    images, labels, model = split.images[:12].float() / 255, split.labels[:12], build(name)(2)
    targets = functional.one_hot(labels, 10).float()
    state = {key: value.detach() for key, value in model.named_parameters()}
    seen, clip = [], 9.9 if name == "convnet" else 5.2

    def factors(norms: torch.Tensor) -> torch.Tensor:
        seen.append(norms)
        return DPSGD(clip, 0.0).row_factors(norms)

    found, losses = network_row_gradients(model, state, dict(model.named_buffers()), images, targets, factors)
    expected = one_by_one(model, images, labels, clip)
    (norms,) = seen
    assert norms.min() < clip < norms.max(), "some are clipped, and some are not"
    torch.testing.assert_close(losses, functional.cross_entropy(model(images), labels, reduction="none"), rtol=1e-4, atol=1e-5)
    model.zero_grad()
    hooked = GradSampleModule(build(name)(2), loss_reduction="sum")
    functional.cross_entropy(hooked(images), labels, reduction="sum").backward()
    rows = torch.cat([value.grad_sample.flatten(1) for value in hooked.parameters()], 1)
    torch.testing.assert_close(norms, rows.norm(dim=1), rtol=1e-3, atol=1e-4)
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-5)


def test_heads_are_clipped_in_closed_form() -> None:
    drawn = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(2, 7, 64, generator=drawn), torch.randint(10, (2, 7), generator=drawn)
    heads = [fresh_head(64, 10, seed) for seed in (1, 2)]
    state = {key: torch.stack([head.state_dict()[key] for head in heads]) for key in ("weight", "bias")}
    found, losses = head_row_gradients(state, inputs, functional.one_hot(labels, 10).float(), DPSGD(2.0, 0.0).row_factors)
    for member, head in enumerate(heads):
        expected = one_by_one(head, inputs[member], labels[member], 2.0)
        for key, value in expected.items():
            torch.testing.assert_close(found[key][member], value, rtol=1e-4, atol=1e-6)
        loss = functional.cross_entropy(head(inputs[member]), labels[member], reduction="none")
        torch.testing.assert_close(losses[member], loss.detach())


def test_noise_has_its_deviation_and_depends_on_seed_and_step_alone() -> None:
    step = random_step(members=2, count=8)
    gradients = {"a": torch.zeros(2, 300, 40), "b": torch.zeros(2, 50)}
    for defense, deviation in ((DPSGD(2.0, 1.5), 3 / 8), (GradientShaping(2.0, 0.01), 0.02)):
        found = defense.gradient(gradients, step)
        assert found["a"].std().item() == pytest.approx(deviation, rel=0.03)
        assert abs(found["a"].mean().item()) < 0.03 * deviation
        assert not torch.equal(found["a"][0], found["a"][1])
        assert torch.equal(found["a"], defense.gradient(gradients, step)["a"])
        assert not torch.equal(found["a"], defense.gradient(gradients, random_step(2, 8, number=5))["a"])


def test_gradient_shaping_clips_each_members_whole_gradient() -> None:
    gradients = {"a": torch.tensor([[3.0, 0.0], [0.3, 0.0]]), "b": torch.tensor([[4.0], [0.4]])}
    found = GradientShaping(1.0, 0.0).gradient(gradients, random_step())
    torch.testing.assert_close(found["a"], torch.tensor([[0.6, 0.0], [0.3, 0.0]]))
    torch.testing.assert_close(found["b"], torch.tensor([[0.8], [0.4]]))


@pytest.mark.parametrize("defense", [DPSGD(0.5, 0.2), GradientShaping(0.5, 0.01)])
def test_a_member_equals_a_single_classifier_and_one_of_heads_one_alone(defense) -> None:
    assert_equals_single(Recipe(epochs=2, batch_size=20, learning_rate=0.2, flip=True), defense)
    assert_equals_alone(Recipe(epochs=3, batch_size=48, learning_rate=0.5), defense, heads=True)


def test_a_step_of_an_ensemble_descends_what_is_clipped() -> None:
    split, recipe = Few().split("train"), Recipe(epochs=1, batch_size=48, momentum=0.0, weight_decay=0.0)
    data = EnsembleData(split.images, split.labels, torch.arange(48)[None])
    state = fit(EnsembleModule(build("patchnet"), [4], data, recipe, defense=DPSGD(0.5, 0.0)), 1).member_state(0)
    model = build("patchnet")(4)
    expected = one_by_one(model, split.images.float() / 255, split.labels, 0.5)
    for name, value in model.named_parameters():
        moved = (state[name] - value.detach()) / -recipe.learning_rate
        torch.testing.assert_close(moved, expected[name], rtol=1e-2, atol=1e-5)


def test_digits_are_learned() -> None:
    assert accuracy(DPSGD(1.0, 0.1), 8) > 0.85
    assert accuracy(GradientShaping(), 8) > 0.85


def test_batch_normalization_is_refused_before_any_training(plan_of) -> None:
    message = r"body.0.1 normalizes by the batch.*such as convnet \(--victims"
    with pytest.raises(InputError, match=message):
        plan_of(DPSGD(), victims=["convnet_wide"])
    with pytest.raises(InputError, match=r"--model.network"):
        ClassifierModule(Network("convnet_wide"), defense=DPSGD())
    assert plan_of(DPSGD(), victims=["patchnet"]).arms["own"].training.noise == 1.0
    assert plan_of(GradientShaping(), victims=["convnet_wide"]) is not None


RUN = Run(rows=2500, batch_size=64, epochs=40, heads=False, num_classes=10, poisons=25)


def test_what_is_proved_is_in_the_records() -> None:
    facts = DPSGD(1.0, 1.0).facts(RUN)
    # Opacus' default accountant is tighter.
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(1.0, 64 / 2500, 40 * 40)]
    assert accountant.get_epsilon(1e-5) < facts["epsilon"] < 1.2 * accountant.get_epsilon(1e-5)
    # Without a gain from sampling it is far more, and 25 poisons may then do anything.
    assert facts["shuffled_epsilon"] > 10 * facts["epsilon"] and facts["shuffled_guess_bound"] == 1
    assert facts["guess_bound"] == 1 and facts["delta"] == 1e-5
    assert DPSGD(1.0, 0.0).facts(RUN) == {} == GradientShaping().facts(RUN)


def test_few_poisons_under_much_noise_is_bounded() -> None:
    facts = DPSGD(1.0, 200.0).facts(Run(2500, 64, 40, False, 10, 2))
    mu = 2 * math.sqrt(40) / 200
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = float(normal.cdf(normal.icdf(torch.tensor(0.1)) + 2 * mu))
    assert facts["shuffled_guess_bound"] == pytest.approx(expected, abs=1e-4)
    # The privacy profile of a Gaussian mechanism by quadrature of max(0, p - e^eps q).
    grid = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    p, q = (torch.exp(-((grid - shift) ** 2) / 2) / math.sqrt(2 * math.pi) for shift in (mu, 0.0))
    profile = torch.trapezoid((p - math.exp(facts["shuffled_epsilon"]) * q).clamp_min(0), grid)
    assert float(profile) == pytest.approx(1e-5, rel=0.01)
    epsilon = facts["epsilon"]
    group = math.exp(4 * epsilon) * 0.1 + 1e-5 * sum(math.exp(place * epsilon) for place in range(4))
    assert facts["guess_bound"] == pytest.approx(group, abs=1e-4)


def test_nothing_is_said_to_be_proved_after_a_filter() -> None:
    assert facts_of(Arm("own", (DPSGD(),)), RUN)["epsilon"] > 0
    assert facts_of(Arm("own", (SpectralSignatures(), DPSGD())), RUN) == {} == facts_of(Arm("own", (Mixup(),)), RUN)


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (DPSGD, "clip", 0.0),
        (DPSGD, "noise", -1.0),
        (DPSGD, "delta", 1.0),
        (DPSGD, "noise", float("inf")),
        (GradientShaping, "clip", float("nan")),
        (GradientShaping, "noise", -0.1),
    ],
)
def test_what_is_out_of_range_is_refused(kind, option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{option} of (DP-SGD|gradient shaping) is {value:g}.*--\*.{option}"):
        kind(**{option: value})


def test_a_chain_keeps_its_settings() -> None:
    assert Chain([DPSGD(2.0)]).steps[0].settings() == {"defense": "dp_sgd", "clip": 2.0, "noise": 1.0, "delta": 1e-5}
