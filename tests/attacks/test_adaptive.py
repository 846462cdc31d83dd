"""Every attack through a defence that its attacker knows; no attack has a line about it."""

import pytest
import torch
from torch import Tensor

from poison_and_defend.attacks import (
    BullseyePolytope,
    ConvexPolytope,
    HiddenTrigger,
    LabelConsistent,
    Narcissus,
    PoisonFrogs,
    SleeperAgent,
    WitchesBrew,
)
from poison_and_defend.attacks.threat.sanitizing import Realisation, Sanitizing
from poison_and_defend.attacks.threat.trigger import PatchTrigger
from poison_and_defend.core.clip import clipped
from poison_and_defend.lightning_modules.networks.build import build_network

NO_VIEWS = {"max_shift": 0.0, "flip": False}
TRIGGER = PatchTrigger(size=6, placement="bottom_right")
MAKE = {
    "bullseye_polytope": lambda eps, steps: BullseyePolytope(eps, steps=steps, learning_rate=0.02),
    "convex_polytope": lambda eps, steps: ConvexPolytope(eps, steps=steps, learning_rate=0.02),
    "poison_frogs": lambda eps, steps: PoisonFrogs(eps, steps=steps, learning_rate=1.0, beta=0.0),
    "hidden_trigger": lambda eps, steps: HiddenTrigger(eps, steps=steps, learning_rate=0.5, tolerance=0.0, trigger=TRIGGER),
    "label_consistent": lambda eps, steps: LabelConsistent(eps, steps=steps, trigger=TRIGGER),
    "witches_brew": lambda eps, steps: WitchesBrew(eps, steps=steps, restarts=2, **NO_VIEWS),
    "sleeper_agent": lambda eps, steps: SleeperAgent(
        eps, steps=steps, num_sources=8, retrains=0, selection="given", trigger=TRIGGER, **NO_VIEWS
    ),
    "narcissus": lambda eps, steps: Narcissus(eps, steps=max(steps, 6), learning_rate=0.1, image_batch=40, **NO_VIEWS),
}
EACH = pytest.mark.parametrize("name", MAKE)
EPS, STEPS = 0.2, 15


class Mirror(Sanitizing):
    """A defence with a hole: it hands out the mirror image, plus noise."""

    def __init__(self, sigma: float, draws: int = 1, mirror: bool = True, held_out: int = 64) -> None:
        self.sigma, self.draws, self.mirror, self.held_out, self.drawn = sigma, draws, mirror, held_out, 0
        self.random = sigma > 0

    def draw(self, keys, image_shape, generators) -> Realisation:
        self.drawn += 1
        noise = torch.stack([torch.randn(keys.shape[1], *image_shape, generator=g) for g in generators])

        def rewrite(images: Tensor, own: Tensor) -> Tensor:
            return clipped((images.flip(-1) if self.mirror else images) + self.sigma * own)

        return Realisation(rewrite, noise)


@pytest.fixture(scope="module")
def crafted(craft, digits, setups):
    """Poison images ``(S, k, 1, 32, 32)``, and the objectives of every step, ``(steps, S)``, and at the end."""
    known = {label: [build_network("convnet", in_channels=1, num_classes=11, seed=1).eval()] for label in range(10)}

    without: dict[str, tuple] = {}

    def plain(name: str) -> tuple:
        """Of an attacker who knows no defence: once for all tests that compare."""
        if name not in without:
            without[name] = run(name)
        return without[name]

    def run(name: str, eps: float = EPS, steps: int = STEPS, bases: Tensor | None = None, **rest):
        attack, objectives = MAKE[name](eps, steps), []
        more = {"class_surrogates": known} if name == "narcissus" else {}
        if bases is None:
            found = craft(attack, progress=lambda value: objectives.append(value.clone()), **more, **rest)
        else:
            train, test = digits.split("train"), digits.split("test")
            model = build_network("convnet", in_channels=1, num_classes=10, seed=1).eval()
            images = train.images.clone()
            for setup, own in zip(setups, bases, strict=True):
                images[torch.from_numpy(setup.base_indices)] = own
            found = attack.craft(
                setups,
                images,
                train.labels,
                test.images,
                [model],
                progress=lambda v: objectives.append(v.clone()),
                **more,
                **rest,
            )
        return torch.stack([one.images for one in found]), torch.stack(objectives), [one.objective for one in found]

    run.plain = plain
    return run


@EACH
def test_a_defence_that_changes_nothing_leaves_the_attack_as_it_is(name, crafted) -> None:
    plain, _, _ = crafted.plain(name)
    through, _, _ = crafted(name, sanitizing=Mirror(0.0, mirror=False))
    assert torch.equal(plain, through)


# The objective of Narcissus is over images that are no poisons; see the next test.
@pytest.mark.parametrize("name", [name for name in MAKE if name != "narcissus"])
def test_poisons_made_for_a_defence_do_better_through_it_than_those_made_without(name, crafted) -> None:
    plain, _, _ = crafted.plain(name)
    adaptive, _, final = crafted(name, sanitizing=Mirror(0.02))
    # A step of almost nothing from the finished poisons shows first what they are worth through the defence.
    _, start, _ = crafted(name, eps=0.004, steps=1, bases=plain, sanitizing=Mirror(0.02))
    assert not torch.equal(plain, adaptive)
    assert sum(final) < 0.95 * start[0].sum().item()


def test_narcissus_through_a_defence_ends_below_where_it_began(crafted) -> None:
    adaptive, steps, final = crafted("narcissus", sanitizing=Mirror(0.02))
    plain, _, _ = crafted.plain("narcissus")
    assert sum(final) < 0.95 * steps[0].sum().item()
    assert not torch.equal(plain, adaptive)


@EACH
def test_every_step_looks_at_as_many_draws_as_were_asked_for(name, crafted) -> None:
    defence = Mirror(0.1, draws=3)
    crafted(name, steps=2, sanitizing=defence)
    assert defence.drawn % 3 == 0 and defence.drawn >= 6


@EACH
def test_the_same_seed_gives_the_same_adaptive_poisons(name, crafted) -> None:
    first, second = (crafted(name, steps=2, sanitizing=Mirror(0.1, draws=2))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_more_draws_are_nearer_to_what_fresh_noise_will_do(crafted) -> None:
    """Against noise as large as the budget: one draw a step wanders, eight average it away."""
    means = []
    for draws in (1, 8):
        adaptive, _, _ = crafted("bullseye_polytope", sanitizing=Mirror(0.2, draws=draws))
        _, start, _ = crafted("bullseye_polytope", eps=0.004, steps=1, bases=adaptive, sanitizing=Mirror(0.2, draws=64))
        means.append(start[0].mean().item())
    assert means[1] < means[0]


@EACH
def test_the_objective_on_held_out_draws_is_told_thrice_and_changes_nothing(name, crafted) -> None:
    told: list[tuple[int, Tensor]] = []
    unwatched, _, final = crafted(name, steps=8, sanitizing=Mirror(0.05, draws=2))
    poisons, _, _ = crafted(
        name, steps=8, sanitizing=Mirror(0.05, draws=2, held_out=16), watch=lambda *found: told.append(found)
    )
    assert torch.equal(poisons, unwatched)
    assert [step for step, _ in told] == [2, 4, 8]
    assert all(values.shape == (len(final),) and not values.requires_grad for _, values in told)
    # 16 draws of the last poisons, where the attack's own last word rests on two.
    torch.testing.assert_close(told[-1][1], torch.tensor(final), rtol=0.15, atol=0.02)
    if name != "bullseye_polytope":
        return
    # All attacks draw them in one place.
    again: list[tuple[int, Tensor]] = []
    crafted(name, steps=8, sanitizing=Mirror(0.05, draws=2, held_out=16), watch=lambda *found: again.append(found))
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(told, again, strict=True))


def test_held_out_draws_are_none_of_those_that_steps_see(craft) -> None:
    drawn = []

    class Remembered(Mirror):
        def draw(self, keys, image_shape, generators) -> Realisation:
            found = super().draw(keys, image_shape, generators)
            drawn.append(found.drawn.sum().item())
            return found

    craft(BullseyePolytope(EPS, steps=4), sanitizing=Remembered(0.1, draws=3), watch=lambda *found: None)
    # Four steps of three draws, the same 64 draws three times, and three draws for the last word.
    assert len(drawn) == 4 * 3 + 3 * 64 + 3
    assert len(set(drawn)) == 4 * 3 + 64 + 3


def test_nothing_is_told_of_an_attack_that_knows_no_defence(craft) -> None:
    def never(*found) -> None:
        raise AssertionError

    craft(BullseyePolytope(EPS, steps=4), watch=never)
