"""Pictures show the numbers they are given, legibly, and refer to nothing outside."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from ntkit import plotting
from ntkit.analysis.metrics import Calibration

TIMES = np.geomspace(0.1, 1e3, 20)
CURVE = Calibration(np.linspace(0.1, 0.9, 5), np.linspace(0.2, 0.95, 5), np.array([1, 5, 5, 9, 30]))

FIGURES = {
    "predictions": lambda: plotting.plot_predictions(
        np.arange(5.0), np.arange(5.0) + 0.1, np.arange(5.0) - 1.0, np.arange(5.0) + 1.0, "price", 0.95
    ),
    "confusion": lambda: plotting.plot_confusion(np.array([[5, 1], [0, 7]]), ("no", "a rather long name")),
    "perfect confusion": lambda: plotting.plot_confusion(np.diag([3, 4, 5]), ("a", "b", "c")),
    "intervals": lambda: plotting.plot_interval_calibration({"one": CURVE, "two": CURVE}),
    "reliability": lambda: plotting.plot_reliability({"one": CURVE}),
    "losses": lambda: plotting.plot_losses(TIMES, 1.0 / TIMES, 2.0 / TIMES),
    "losses with networks": lambda: plotting.plot_losses(
        TIMES, 1.0 / TIMES, 2.0 / TIMES, TIMES[:5], np.ones((5, 2)), np.ones((5, 2)), 64
    ),
    "stopping": lambda: plotting.plot_stopping(np.append(TIMES, np.inf), np.ones(21), 3, TIMES, np.ones(20)),
    "never stopping": lambda: plotting.plot_stopping(
        np.append(TIMES, np.inf), np.ones(21), 20, TIMES, np.ones(20)
    ),
    "eigenvalues": lambda: plotting.plot_eigenvalues(1.0 / TIMES, np.append(1.0 / TIMES[:-1], 0.0)),
    "course": lambda: plotting.plot_course(
        np.append(0.0, TIMES), np.append(20.0, 1.0 / TIMES), np.ones(21), "loss", np.full(21, 20.0), 3.0
    ),
    "course without proof": lambda: plotting.plot_course(TIMES, 1.0 / TIMES, 2.0 / TIMES, "Huber loss"),
    "decay": lambda: plotting.plot_eigenvalues(
        1.0 / TIMES, None, TIMES[:5], 2.0 / TIMES[:5], "decay −1 ± 0.1"
    ),
    "measured learning curve": lambda: plotting.plot_learning_curve(
        TIMES[:5], 1.0 + 1.0 / TIMES[:5], TIMES[:5], 1.0 + 1.0 / TIMES[:5], np.full(5, 0.1)
    ),
    "phase diagram with a network": lambda: plotting.plot_phase_diagram(
        np.array([1.0, 2.0]),
        np.array([0.0, 0.5]),
        np.array([["critical", "chaotic"], ["ordered", "divergent"]]),
        np.array([[1.0, 0.0], [1.2, 0.5]]),
        (1.5, 0.2),
    ),
    "one spectrum": lambda: plotting.plot_eigenvalues(1.0 / TIMES),
    "learning times": lambda: plotting.plot_learning_times(
        np.append(TIMES[:-1], np.inf), np.full(20, 0.05), 10.0
    ),
    "without stopping": lambda: plotting.plot_learning_times(TIMES, np.full(20, 0.05), float("inf")),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_is_self_contained_and_its_letters_are_not_tiny(name):
    figure = FIGURES[name]()
    sizes = [text.get_fontsize() for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize"))]
    assert min(sizes) >= 7.0  # superscripts of tick labels are drawn smaller than their label
    assert figure.axes[0].get_xlabel()
    assert figure.axes[0].get_ylabel()
    svg = plotting.as_svg(figure)
    ElementTree.fromstring(svg)
    links = re.findall(r'(?:href|src|url)\s*[=(]\s*"?([^")]*)', svg)
    assert all(link.startswith(("#", "data:")) for link in links)
    assert svg == plotting.as_svg(FIGURES[name]())


def test_points_lie_where_the_numbers_say():
    axes = FIGURES["predictions"]().axes[0]
    inside, outside, diagonal = axes.get_lines()
    np.testing.assert_array_equal(
        inside.get_xydata(), np.column_stack([np.arange(5.0), np.arange(5.0) + 0.1])
    )
    assert outside.get_xydata().size == 0
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())


def test_the_confusion_matrix_is_written_out():
    axes = FIGURES["confusion"]().axes[0]
    written = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert written == {((0, 0), "5"), ((1, 0), "1"), ((1, 1), "7")}


def test_the_course_shows_what_matters_and_the_network_its_place():
    axes = FIGURES["course"]().axes[0]
    train, test, bound, stop = axes.get_lines()
    np.testing.assert_array_equal(train.get_xydata(), np.column_stack([TIMES, 1.0 / TIMES]))
    np.testing.assert_array_equal(test.get_ydata(), np.ones(20))
    np.testing.assert_array_equal(bound.get_ydata(), np.full(20, 20.0))
    assert stop.get_xdata()[0] == 3.0
    # Losses below a thousandth of the first are cut off: 20 falls to 0.001.
    assert 0.01 < axes.get_ylim()[0] < 0.02
    assert axes.get_ylim()[1] > 20.0
    point = FIGURES["phase diagram with a network"]().axes[0].get_lines()[-1]
    np.testing.assert_array_equal(point.get_xydata(), [[1.5, 0.2]])
