import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from poison_and_defend.attacks.crafting.simplex import nearest_combination, project_simplex

ENTRIES = st.lists(st.floats(-50, 50), min_size=1, max_size=8)


def on_simplex(objective, jacobian, size: int) -> np.ndarray:
    constraint = {"type": "eq", "fun": lambda c: c.sum() - 1, "jac": lambda c: np.ones(size)}
    options = {"ftol": 1e-14, "maxiter": 1000}
    start = np.full(size, 1 / size)
    return minimize(objective, start, jac=jacobian, bounds=[(0, 1)] * size, constraints=[constraint], options=options).x


@settings(max_examples=60, deadline=None)
@given(ENTRIES)
def test_projection_is_on_the_simplex_and_no_point_of_it_is_nearer(entries: list[float]) -> None:
    vector = torch.tensor(entries, dtype=torch.float64)
    found = project_simplex(vector)
    assert (found >= 0).all()
    assert found.sum().item() == pytest.approx(1, abs=1e-12)
    # The variational inequality against the corners, which is against all of the simplex.
    assert ((vector - found)[:, None] * (torch.eye(len(entries)) - found[:, None])).sum(0).max() < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_projection_equals_a_general_solver(seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=6)
    expected = on_simplex(lambda c: ((c - vector) ** 2).sum(), lambda c: 2 * (c - vector), 6)
    np.testing.assert_allclose(project_simplex(torch.from_numpy(vector)).numpy(), expected, atol=1e-6)


def test_projection_of_a_batch_equals_one_by_one_and_points_of_the_simplex_stay() -> None:
    vectors = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    together = project_simplex(vectors)
    assert torch.equal(together[1, 2], project_simplex(vectors[1, 2]))
    torch.testing.assert_close(project_simplex(together), together)


def problem(seed: int, inside: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(5, 8 if not inside else 3))
    return vertices, vertices.mean(0) + (0 if inside else 1) * rng.normal(size=vertices.shape[1])


@pytest.mark.parametrize("inside", [False, True])
def test_combination_equals_a_general_solver(inside: bool) -> None:
    problems = [problem(seed, inside) for seed in range(6)]
    offsets = torch.from_numpy(np.stack([vertices - point for vertices, point in problems]))
    start = torch.full((6, 5), 0.2, dtype=torch.float64)
    found, iterations = nearest_combination(offsets @ offsets.mT, start, tolerance=1e-10)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(6, dtype=torch.float64))
    assert iterations.max() < 10_000
    for (vertices, point), own in zip(problems, found.numpy(), strict=True):

        def distance(c: np.ndarray, vertices=vertices, point=point) -> float:
            return ((c @ vertices - point) ** 2).sum()

        def slope(c: np.ndarray, vertices=vertices, point=point) -> np.ndarray:
            return 2 * vertices @ (c @ vertices - point)

        assert distance(own) <= distance(on_simplex(distance, slope, 5)) + 1e-9


def test_a_solved_problem_does_not_depend_on_the_others_and_a_warm_start_is_kept() -> None:
    offsets = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gram, start = offsets @ offsets.mT, torch.full((4, 6), 1 / 6, dtype=torch.float64)
    together, iterations = nearest_combination(gram, start)
    alone, own = nearest_combination(gram[2:3], start[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=0, atol=1e-12)
    assert own.item() == iterations[2].item()
    assert nearest_combination(gram, together)[1].max() < iterations.max()


def test_a_point_that_is_every_vertex_leaves_the_start() -> None:
    start = torch.tensor([[0.3, 0.7]])
    found, _ = nearest_combination(torch.zeros(1, 2, 2), start)
    torch.testing.assert_close(found, start)


def test_iterations_are_counted_from_one_and_bounded() -> None:
    offsets = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gram = offsets @ offsets.mT
    for most in (1, 2):
        start = torch.full((4, 6), 1 / 6, dtype=torch.float64)
        assert nearest_combination(gram, start, tolerance=0.0, max_iterations=most)[1].tolist() == [most] * 4
    # What moves by nothing is solved with its first iteration.
    assert nearest_combination(torch.zeros(1, 2, 2), torch.tensor([[0.3, 0.7]]))[1].tolist() == [1]


def replay(gram: np.ndarray, start: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
    """FISTA with O'Donoghue and Candes' restart for one problem, as their papers write it."""
    step = 1 / np.abs(gram).sum(1).max()
    before, ahead, momentum = start, start, 1.0
    for iteration in range(1, 10_000):
        now = project_simplex(torch.from_numpy(ahead - step * gram @ ahead)).numpy()
        if (ahead - now) @ (now - before) > 0:
            momentum, ahead = 1.0, now
        else:
            longer = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead, momentum = now + (momentum - 1) / longer * (now - before), longer
        if np.linalg.norm(now - before) <= tolerance * np.linalg.norm(before):
            return now, iteration
        before = now
    raise AssertionError("it does not converge")


@pytest.mark.parametrize("inside", [False, True])
def test_the_way_to_a_combination_is_that_of_the_papers(inside: bool) -> None:
    offsets = np.stack([vertices - point for vertices, point in (problem(seed, inside) for seed in range(8))])
    grams = offsets @ offsets.swapaxes(1, 2)
    start = np.full(5, 0.2)
    found, iterations = nearest_combination(torch.from_numpy(grams), torch.from_numpy(np.tile(start, (8, 1))), tolerance=1e-8)
    for number, gram in enumerate(grams):
        expected, count = replay(gram, start, 1e-8)
        assert iterations[number] == count
        np.testing.assert_allclose(found[number].numpy(), expected, atol=1e-12)
