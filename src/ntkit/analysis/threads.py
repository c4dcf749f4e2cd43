"""How many threads linear algebra gets: for small matrices one is enough, and much faster beside other work."""

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits

FEW_ROWS = 1200
"""Below this many rows linear algebra is hardly slower on one thread, and far faster where other work competes."""


def suited_to(rows: int) -> AbstractContextManager:
    """One thread for matrices of few rows, all threads for larger ones."""
    return threadpool_limits(1 if rows < FEW_ROWS else None, user_api="blas")
