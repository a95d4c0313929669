"""What kernels on a CPU share."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from fedse.models.compiled import compiled, exponential


@numba.njit
def exponentials(numbers: Any, results: Any) -> None:
    for i in range(len(numbers)):
        results[i] = exponential(numbers[i])


def test_the_exponential_is_as_exact_as_its_argument_and_nothing_where_it_would_become_denormal() -> None:
    numbers = np.linspace(-44.3, 0, 10_001, dtype=np.float32)
    found = np.empty_like(numbers)
    exponentials(numbers, found)
    exact = np.exp(numbers.astype(np.float64))
    assert (np.abs(found / exact - 1) < 2e-7 + 2**-23 * np.abs(numbers)).all()
    tiny = np.array([-45, -80, -88, -1e3, -np.inf], np.float32)
    found = np.full_like(tiny, 7)
    exponentials(tiny, found)
    assert not found.any()  # products of 2**-126 are denormal, which made attention three times as slow


def test_machine_code_is_kept_apart_for_other_code_that_is_inlined(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """numba sees changes of a kernel's own file only."""
    monkeypatch.setenv("FEDSE_CACHE", str(tmp_path_factory.mktemp("cache")))
    folders = []
    for inlined in (b"one", b"other", b"one"):
        monkeypatch.setattr("fedse.models.compiled._inlined_code", lambda code=inlined: code)
        function = compiled(exponentials.py_func)
        folders.append(function._cache.cache_path)  # type: ignore[attr-defined]
    assert folders[0] == folders[2] != folders[1]
