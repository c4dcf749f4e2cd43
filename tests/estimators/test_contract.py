"""scikit-learn's own checks of its estimator contract."""

import subprocess
import sys

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from ntkit.estimators import NNGPRegressor, NTKClassifier, NTKRegressor

# Depth 1 compiles fastest; depth plays no part in the contract.
SMALL = [NTKRegressor(depth=1), NTKClassifier(depth=1)]

ELSEWHERE = {
    "check_array_api_input": "needs SCIPY_ARRAY_API=1 in the environment before SciPy is imported",
    "check_do_not_raise_errors_in_init_or_set_params": "needs constructors whose types are not checked; see below",
}


def _run(estimator, check):
    name = check.func.__name__
    if name in ELSEWHERE:
        pytest.skip(ELSEWHERE[name])
    check(estimator)


@parametrize_with_checks(SMALL)
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    _run(estimator, check)


OTHERS = [NNGPRegressor(), NNGPRegressor(depth=1), NTKRegressor(time="best"), NTKClassifier(time="best")]


@pytest.mark.slow
@parametrize_with_checks(OTHERS)
def test_scikit_learn_finds_nothing_wrong_with_other_settings(estimator, check):
    _run(estimator, check)


@pytest.mark.slow
def test_constructors_accept_anything_and_check_nothing():
    """In a process of its own, since the tests' import hook checks the types of every call."""
    program = (
        "from sklearn.utils.estimator_checks import check_do_not_raise_errors_in_init_or_set_params as check\n"
        "from ntkit.estimators import NNGPRegressor, NTKClassifier, NTKRegressor\n"
        "for estimator in NNGPRegressor(), NTKRegressor(), NTKClassifier():\n"
        "    check(type(estimator).__name__, estimator)\n"
        "print('checked')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.stdout == "checked\n", result.stderr
