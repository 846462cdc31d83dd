import numpy as np
import pytest

from poison_and_defend.certification import expected_certified, lower_bound, votes_to_certify


@pytest.mark.parametrize("models", [1, 7, 100, 1000])
def test_the_votes_that_certify_are_the_fewest_that_do(models: int) -> None:
    needed = np.array([0.5, 0.6, 0.95, 0.999999])
    for alpha in (0.05, 1e-4):
        for threshold, count in zip(needed, votes_to_certify(needed, models, alpha), strict=True):
            enough = [c for c in range(models + 1) if float(lower_bound(c, models, alpha)) > threshold]
            assert count == (enough[0] if enough else models + 1)


def test_the_forecast_is_the_mean_over_what_the_pilots_leave_open(generator: np.random.Generator) -> None:
    votes = np.array([20, 20, 15, 3])
    found = expected_certified(votes, 20, 0.6, 200, 0.001)
    draws = 200_000
    p = generator.beta(votes[:, None] + 0.5, 20 - votes[:, None] + 0.5, (4, draws))
    certified = lower_bound(generator.binomial(200, p), 200, 0.001) > 0.6
    assert found == pytest.approx(certified.mean(), abs=4e-3)
    assert 0.3 < found < 0.75


def test_a_forecast_comes_true_on_images_drawn_from_its_prior(generator: np.random.Generator) -> None:
    p = generator.beta(0.5, 0.5, 4000)
    pilots = generator.binomial(30, p)
    forecast = expected_certified(pilots, 30, 0.7, 1000, 0.001)
    realised = (lower_bound(generator.binomial(1000, p), 1000, 0.001) > 0.7).mean()
    assert forecast == pytest.approx(realised, abs=0.02)


def test_more_models_certify_more_and_a_larger_attack_less() -> None:
    votes = np.arange(31)
    by_models = [expected_certified(votes, 30, 0.6, n, 0.001) for n in (10, 100, 1000, 10_000)]
    by_need = [expected_certified(votes, 30, needed, 1000, 0.001) for needed in (0.5, 0.7, 0.9, 0.999)]
    assert by_models == sorted(by_models)
    assert by_need == sorted(by_need, reverse=True)
    assert by_need[-1] < 0.05 < by_models[-1]
