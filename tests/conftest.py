"""What holds in every test: types and shapes checked on each call, no implicit broadcasting, one platform.

The import hook must be in place before any module of ntkit is imported, hence here and at the top.
"""

import gc
import os

os.environ["JAX_PLATFORMS"] = "cpu"  # results are compared to tolerances derived for it
os.environ.setdefault("MPLBACKEND", "Agg")
# Matrices of tests are small: a second thread of BLAS waits, at the full load of a core, more than it works. Of
# libraries loaded later and of processes started here; NumPy's, loaded before this file, is told below.
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import jax
import jaxtyping
import pytest
from threadpoolctl import threadpool_limits

threadpool_limits(int(os.environ["OPENBLAS_NUM_THREADS"]), user_api="blas")

jaxtyping.install_import_hook("ntkit", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples on every machine and every run; a compilation may fall into any one of them, so no deadline.
hypothesis.settings.register_profile("ntkit", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("ntkit")


def pytest_configure(config):
    """What takes a tenth of a second to compile is kept: for the other processes, and for the next run."""
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_collection_modifyitems(items):
    """Tests of one analysis stand together: then one worker makes it, once."""
    shared = {"regression_analysis", "classification_analysis"}
    items.sort(key=lambda item: shared.isdisjoint(getattr(item, "fixturenames", ())))


def pytest_collection_finish(session):
    """What is there before the first test stays; to look through it again and again takes a thirtieth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="session")
def regression_table():
    """Sixty rows: two numbers, a category, a target that depends on all."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(1)
    a, b, colour = rng.normal(size=60), rng.uniform(size=60), rng.choice(["red", "green", "blue"], size=60)
    y = 100.0 + 10.0 * np.sin(2.0 * a) + 5.0 * b + 3.0 * (colour == "red") + rng.normal(size=60)
    return pl.DataFrame({"a": a, "b": b, "colour": colour, "y": y})


@pytest.fixture(scope="session")
def classification_table(regression_table):
    """The same inputs; three classes."""
    import polars as pl

    return regression_table.with_columns(
        species=pl.when(pl.col("y") < 97.0).then(pl.lit("small")).when(pl.col("y") < 106.0).then(pl.lit("middle"))
        .otherwise(pl.lit("large"))
    ).drop("y")  # fmt: skip


@pytest.fixture(scope="session")
def quick_settings():
    """The main job, as small as it gets."""
    from ntkit.analysis import Settings

    return Settings(
        depths=(1,),
        activations=("relu",),
        kernel="nngp",
        starts=1,
        folds=3,
        width=32,
        networks=2,
        network_steps=60,
    )


@pytest.fixture(scope="session")
def regression_analysis(regression_table, quick_settings):
    """The main job on the regression table."""
    from ntkit.analysis import fit_table

    return fit_table(regression_table, "y", settings=quick_settings)


@pytest.fixture(scope="session")
def classification_analysis(classification_table, quick_settings):
    """The main job on the classification table, with the NTK as the posterior's kernel."""
    from dataclasses import replace

    from ntkit.analysis import fit_table

    return fit_table(classification_table, "species", settings=replace(quick_settings, kernel="ntk"))
