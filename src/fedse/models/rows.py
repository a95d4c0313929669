"""How many rows a computation takes: a few numbers only, since a CPU's library compiles a kernel for each.

oneDNN makes machine code for the shape of a matrix product when it first meets it, which takes as long as ten to thirty
products of the sizes here, and keeps the last thousand.  Rows that differ in number from pass to pass, as tokens do,
are therefore filled up to the next of a few numbers.
"""

from __future__ import annotations

#: oneDNN multiplies fewer rows by other kernels, which sum in another order: what is alone would be computed in another
#: way than in company.
LEAST_ROWS = 4


def filled_up(rows: int) -> int:
    """The least number of rows to compute that is at least ``rows``: at most an eighth more, or seven."""
    step = max(LEAST_ROWS if rows <= 8 else 8, 1 << max(0, (rows - 1).bit_length() - 4))
    return -(-rows // step) * step
