import numpy as np
import pytest

from poison_and_defend.certification import FixedSize, Poisson, Sampling


@pytest.fixture(
    scope="session",
    params=[FixedSize(600, 40), FixedSize(600, 600), FixedSize(50_000, 500), Poisson(600, 0.05), Poisson(600, 1.0)],
    ids=str,
)
def sampling(request: pytest.FixtureRequest) -> Sampling:
    return request.param


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)
