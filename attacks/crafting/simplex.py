"""Convex combinations: projection to the simplex, and the coefficients that bring a combination nearest to a point."""

import torch
from torch import Tensor


def project_simplex(vectors: Tensor) -> Tensor:
    """Nearest point of the probability simplex to each vector, by sorting.

    Held, Wolfe, Crowder, "Validation of subgradient optimization" (1974); algorithm of Duchi, Shalev-Shwartz, Singer,
    Chandra, "Efficient Projections onto the l1-Ball for Learning in High Dimensions" (ICML 2008), figure 1.

    Args:
        vectors: ``(..., n)`` float.

    Returns:
        The same shape; entries at least 0 that sum to 1.
    """
    # A constant added to all entries does not change the projection; this one keeps large entries from cancelling.
    shifted = vectors - vectors.amax(-1, keepdim=True)
    ordered = shifted.sort(-1, descending=True).values
    excess = ordered.cumsum(-1) - 1
    counts = torch.arange(1, vectors.shape[-1] + 1, device=vectors.device, dtype=vectors.dtype)
    # The entries that stay positive are a prefix in this order; it is never empty unless an entry is not a number.
    support = (ordered * counts > excess).sum(-1, keepdim=True).clamp_min(1)
    threshold = excess.gather(-1, support - 1) / support
    return (shifted - threshold).clamp_min(0)


def nearest_combination(
    gram: Tensor, start: Tensor, *, tolerance: float = 1e-6, max_iterations: int = 10_000
) -> tuple[Tensor, Tensor]:
    """Coefficients ``c`` in the simplex that minimise ``1/2 c' G c``, all problems together.

    As coefficients sum to 1, the squared distance from a point t to ``sum_j c_j v_j`` is ``c' G c`` with
    ``G_ij = <v_i - t, v_j - t>``: once G is known an iteration costs k * k whatever the dimension.

    Projected gradient with Nesterov's momentum (Beck and Teboulle, FISTA, 2009), which restarts when it points uphill
    (O'Donoghue and Candes, 2015, section 3.2). The step is 1/L with L the largest absolute row sum of G, which bounds its
    largest eigenvalue, so that nothing has to be backtracked. A problem that has converged is not touched again:
    the answer does not depend on what else is in the batch.

    Args:
        gram: ``(..., k, k)``, positive semidefinite.
        start: ``(..., k)`` in the simplex.
        tolerance: A problem is solved once an iteration changes its coefficients by no more than this share of their norm.
        max_iterations: Where to stop in any case.

    Returns:
        Coefficients ``(..., k)`` and the number of iterations ``(...)`` that each problem took.
    """
    # In double precision: where the point is inside the polytope, c' G c is a difference of much larger terms.
    gram, current = gram.double(), start.double()
    step = 1 / gram.abs().sum(-1).amax(-1, keepdim=True).clamp_min(torch.finfo(gram.dtype).tiny)
    ahead, momentum = current, torch.ones_like(step)
    active = torch.ones_like(step, dtype=torch.bool)
    iterations = torch.zeros_like(step, dtype=torch.int64)
    for _ in range(max_iterations):
        following = project_simplex(ahead - step * (gram @ ahead[..., None])[..., 0])
        change = following - current
        uphill = ((ahead - following) * change).sum(-1, keepdim=True) > 0
        larger = torch.where(uphill, 1.0, (1 + (1 + 4 * momentum.square()).sqrt()) / 2)
        ahead = following + torch.where(uphill, 0.0, (momentum - 1) / larger) * change
        momentum = larger
        iterations += active
        moved = change.norm(dim=-1, keepdim=True) > tolerance * current.norm(dim=-1, keepdim=True)
        current = torch.where(active, following, current)
        active = active & moved
        if not active.any():
            break
    return current.to(start.dtype), iterations[..., 0]
