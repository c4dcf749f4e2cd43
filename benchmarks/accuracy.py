"""The accuracy table: worst error of both kernels per activation and dtype, by angle between the inputs.

Errors are relative to the entry's natural scale, sqrt(k(x,x) k(x',x')), against the 50-digit references
in tests/oracles. Run it from the root of the repository:

    python -m benchmarks.accuracy            closed forms, expansions, networks (half an hour on two cores)
    python -m benchmarks.accuracy duals      one part: duals, expansions or networks
    python -m benchmarks.accuracy --count 3  fewer pairs per band of angles
"""

import argparse
import sys
import time

import numpy as np
from tests.laws.test_accuracy import DEEP_NETWORKS, NETWORKS
from tests.oracles import measure, strategies
from tests.oracles.table import ROWS

DTYPES = (np.float64, np.float32)
VARIANCES = ((1e-6, 2.0), (2.0, 30.0), (30.0, 1e3))


def worst(errors: measure.Errors, part: slice) -> float:
    """The larger of both kernels' errors over some of the pairs."""
    return max(float(errors.nngp[part].max()), float(errors.ntk[part].max()) if len(errors.ntk) else 0.0)


def print_row(first: str, dtype, cells: list[str]) -> None:
    """One line of a Markdown table, shown as soon as it is known."""
    print(f"| {first} | {dtype.__name__} | {' | '.join(cells)} |", flush=True)


def print_head(title: str, columns: list[str]) -> None:
    """The head of a Markdown table."""
    print(f"\n### {title}\n\n| | dtype | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 2) + "|")


def by_band(errors: measure.Errors, count: int, dtype) -> list[str]:
    """One cell a band, bold where the target is missed."""
    cells = []
    for i, band in enumerate(strategies.BANDS):
        error = worst(errors, slice(i * count, (i + 1) * count))
        cells.append(f"**{error:.0e}**" if error > measure.target(dtype, band) else f"{error:.0e}")
    return cells


def duals(count: int) -> None:
    """Closed forms: one nonlinearity, variances from 1e-6 to 1e3 (less where the dual overflows)."""
    print_head("Closed-form duals, q from 1e-6 to 1e3", list(strategies.BANDS))
    for row in ROWS:
        if not row.closed:
            continue
        number = max(1, count // 5) if row.slow else count
        for dtype in DTYPES:
            largest = row.largest_variance(dtype)
            bands = [
                strategies.sample_covariances(band, number, 7, dtype, 1e-6, largest)
                for band in strategies.BANDS
            ]
            errors = measure.dual_errors(row, [pair for band in bands for pair in band], dtype)
            print_row(row.label, dtype, by_band(errors, number, dtype))


def expansions(count: int) -> None:
    """Expansions: the worst error beside the bound that was reported, by range of variances."""
    columns = [
        f"q {low:g} to {high:g}: {what}" for low, high in VARIANCES for what in ("NNGP", "NTK", "bound")
    ]
    print_head("Expansions", columns)
    for row in ROWS:
        if row.closed:
            continue
        for dtype in DTYPES:
            cells = []
            for low, high in VARIANCES:
                pairs = []
                for band in strategies.BANDS:
                    pairs += strategies.sample_covariances(band, max(1, count // 5), 7, dtype, low, high)
                errors = measure.dual_errors(row, pairs, dtype)
                cells += [f"{value:.0e}" for value in (errors.nngp.max(), errors.ntk.max(), errors.bound)]
            print_row(row.label, dtype, cells)


def networks(count: int) -> None:
    """Whole networks from raw inputs, up to fifty layers deep."""
    print_head("Networks", list(strategies.BANDS))
    number = max(2, count // 2)
    for name, layers in {**NETWORKS, **DEEP_NETWORKS}.items():
        for dtype in DTYPES:
            inputs = [strategies.banded_inputs(band, number, 5, 7, dtype) for band in strategies.BANDS]
            x1, x2 = (np.concatenate(part) for part in zip(*inputs, strict=True))
            print_row(name, dtype, by_band(measure.network_errors(layers, x1, x2), number, dtype))


def main() -> None:
    """Parse the command line and print the tables asked for."""
    parts = {"duals": duals, "expansions": expansions, "networks": networks}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(parts)}; all by default")
    parser.add_argument("--count", type=int, default=10, help="pairs per band of angles (default 10)")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"unknown part {sorted(unknown)[0]}; choose from {', '.join(parts)}")
    started = time.perf_counter()
    for name in arguments.parts or parts:
        parts[name](arguments.count)
    print(f"Took {time.perf_counter() - started:.0f} s.", file=sys.stderr)


if __name__ == "__main__":
    main()
