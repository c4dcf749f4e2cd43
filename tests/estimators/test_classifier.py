"""The classifier on real data, its probabilities, and the settings it refuses."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ntkit.dynamics import gradient_flow
from ntkit.estimators import NTKClassifier
from ntkit.inference import class_probabilities
from ntkit.kernels import NNGP, NTK


@pytest.fixture(scope="module")
def iris():
    """A fixed stratified split."""
    x, y = load_iris(return_X_y=True)
    return train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)


def test_iris_is_classified(iris):
    x, x_test, y, y_test = iris
    classifier = make_pipeline(StandardScaler(), NTKClassifier(depth=1, time="best")).fit(x, y)
    # Any sound classifier gets 43 of these 45 or better; guessing gets 15.
    assert classifier.score(x_test, y_test) >= 0.93
    probabilities = classifier.predict_proba(x_test)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-14)
    np.testing.assert_array_equal(
        classifier.classes_[probabilities.argmax(axis=1)], classifier.predict(x_test)
    )


def test_scores_are_those_of_gradient_flow_on_centred_one_hot_targets(iris):
    x, x_test, y, _ = iris
    classifier = NTKClassifier(depth=1, time=0.5).fit(x, y)
    frequencies = np.bincount(y) / len(y)
    network = classifier.network_
    trained = gradient_flow(NTK(network), x, np.eye(3)[y] - frequencies, prior=NNGP(network)).at(0.5)
    expected = class_probabilities(trained.mean(x_test) + frequencies, trained.std(x_test))
    np.testing.assert_allclose(classifier.predict_proba(x_test), expected, rtol=1e-10)


def test_an_untrained_ensemble_is_undecided_but_for_the_frequencies(iris):
    x, x_test, y, _ = iris
    probabilities = NTKClassifier(depth=1, time=0.0).fit(x, y).predict_proba(x_test)
    # The classes are equally frequent, so at t = 0 symmetry leaves a third each.
    np.testing.assert_allclose(probabilities, 1.0 / 3.0, atol=1e-12)


def test_training_to_convergence_is_certain_of_the_training_points(iris):
    x, _, y, _ = iris
    _, first = np.unique(x, axis=0, return_index=True)  # repeated flowers may disagree
    x, y = x[first], y[first]
    classifier = NTKClassifier(depth=1).fit(x, y)
    np.testing.assert_array_equal(classifier.predict(x), y)
    assert classifier.predict_proba(x)[np.arange(len(y)), y].min() > 0.999


def test_labels_of_any_kind_come_back(iris):
    x, x_test, y, _ = iris
    names = np.array(["setosa", "versicolor", "virginica"])
    classifier = NTKClassifier(depth=1).fit(x, names[y])
    assert list(classifier.classes_) == list(names)
    np.testing.assert_array_equal(
        classifier.predict(x_test), names[NTKClassifier(depth=1).fit(x, y).predict(x_test)]
    )


@pytest.mark.slow
def test_selection_chooses_a_network(iris):
    x, x_test, y, y_test = iris
    classifier = NTKClassifier(depth=1, select=True, time="best", time_limit=np.inf).fit(x, y)
    assert classifier.network_ == classifier.selection_.network
    assert classifier.selection_.candidate.kernel == "ntk"
    assert classifier.score(x_test, y_test) >= 0.93


def test_a_single_class_is_refused(iris):
    with pytest.raises(ValueError, match="at least two classes in y, got one class"):
        NTKClassifier().fit(iris[0], np.zeros(len(iris[0])))
