"""Directions that tell a site's inputs from others'."""

from __future__ import annotations

import numpy as np

from fedse.adapters.moments import directions, separating


def moments_of(leading: slice, width: int = 24) -> np.ndarray:
    """Inputs that are large in some coordinates, and small in all."""
    scales = np.full(width, 0.01)
    scales[leading] = 1.0
    return np.diag(scales).astype(np.float32)


def test_random_directions_are_orthonormal_and_always_the_same() -> None:
    found = directions("layer", 24, 8)
    np.testing.assert_allclose(found @ found.T, np.eye(8), atol=1e-6)
    assert directions.__wrapped__("layer", 24, 8).tobytes() == found.tobytes()
    assert directions("another", 24, 8).tobytes() != found.tobytes()
    assert directions("layer", 24, 100).shape == (24, 24)


def test_separating_directions_see_the_owner_and_not_the_others() -> None:
    """All sites share the large coordinates 0 to 7; each has four of its own."""
    shared = moments_of(slice(0, 8))
    sites = [shared + moments_of(slice(8 + 4 * k, 12 + 4 * k)) for k in range(4)]
    mean = np.mean(sites, axis=0)
    for k, own in enumerate(sites):
        rows = separating(own, mean, 4, ridge=0.01)
        np.testing.assert_allclose(rows @ rows.T, np.eye(4), atol=1e-5)
        seen = [float(np.trace(rows @ site @ rows.T)) for site in sites]
        assert seen[k] > 0.9 * 4
        assert all(other < 0.1 * seen[k] for j, other in enumerate(seen) if j != k)


def test_without_a_difference_any_directions_do() -> None:
    rows = separating(moments_of(slice(0, 8)), moments_of(slice(0, 8)), 4, ridge=0.01)
    np.testing.assert_allclose(rows @ rows.T, np.eye(4), atol=1e-5)
