"""What holds in every test: types and shapes checked on each call, no implicit broadcasting, one platform.

The import hook must be in place before any module of ntkit is imported, hence here and at the top.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # results are compared to tolerances derived for it
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import jaxtyping

jaxtyping.install_import_hook("ntkit", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples on every machine and every run; a compilation may fall into any one of them, so no deadline.
hypothesis.settings.register_profile("ntkit", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("ntkit")
