"""How much memory a matrix over points and outputs would take, said before it is built."""

GIBIBYTE = 2**30


def check_memory(who: str, numbers: int, limit: int, points: int, outputs: int, remedy: str) -> None:
    """Raise when so many float64 numbers take more than `limit` bytes; the text has the estimate and the remedy."""
    needed = 8 * numbers
    if needed > limit:
        raise ValueError(
            f"{who} needs about {needed / GIBIBYTE:.2g} GiB for {points} points of {outputs} output"
            f"{'s' * (outputs > 1)}, more than memory_limit={limit} ({limit / GIBIBYTE:.2g} GiB). Use {remedy}, or a "
            "larger memory_limit."
        )
