"""How many threads linear algebra gets: on small matrices one is as fast, and much faster beside other work."""

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits

FEW_ROWS = 600
"""Below this many rows linear algebra is as fast on one thread, and much faster where other work competes."""


def suited_to(rows: int) -> AbstractContextManager:
    """One thread for matrices of few rows, all threads for larger ones."""
    return threadpool_limits(1 if rows < FEW_ROWS else None, user_api="blas")
