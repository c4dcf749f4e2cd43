"""Pictures of the theory show the numbers they are given, legibly, and refer to nothing outside."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from ntkit import plotting

NUMBERS = np.arange(1.0, 31.0)
LABELS = np.array([["ordered", "critical", "chaotic"], ["ordered", "chaotic", "divergent"]])
W_STDS, B_STDS = np.array([0.5, 1.0, 2.0]), np.array([0.0, 0.4])
WIDTHS, VALUES = np.array([4.0, 16.0, 64.0]), np.array([1.0, 0.25, 0.06])

FIGURES = {
    "spectrum": lambda: plotting.plot_mercer_spectrum(NUMBERS, np.append(NUMBERS[:-1] ** -2.0, 0.0)),
    "fitted spectrum": lambda: plotting.plot_mercer_spectrum(
        NUMBERS, NUMBERS**-2.0, NUMBERS[5:], NUMBERS[5:] ** -2.0, -2.0, 0.01, "degree + d/2 − 1"
    ),
    "prediction": lambda: plotting.plot_learning_curve(NUMBERS, 1.0 / NUMBERS),
    "learning curve": lambda: plotting.plot_learning_curve(
        NUMBERS, 1.0 / NUMBERS, NUMBERS[::10], 1.1 / NUMBERS[::10], 0.1 / NUMBERS[::10]
    ),
    "phases": lambda: plotting.plot_phase_diagram(W_STDS, B_STDS, LABELS, np.array([[1.0, 0.0], [1.5, 0.4]])),
    "one critical point": lambda: plotting.plot_phase_diagram(W_STDS, B_STDS, LABELS, np.array([[1.4, 0.0]])),
    "no critical point": lambda: plotting.plot_phase_diagram(W_STDS, B_STDS, LABELS, np.zeros((0, 2))),
    "decay with width": lambda: plotting.plot_width_decay(
        WIDTHS, VALUES, 0.1 * VALUES, 4.0 / WIDTHS, -1.0, 0.05, "excess kurtosis"
    ),
    "outputs": lambda: plotting.plot_output_distribution(
        WIDTHS, np.random.default_rng(0).normal(size=(3, 500))
    ),
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


def test_only_positive_eigenvalues_are_shown_and_the_exponent_is_written():
    axes = FIGURES["spectrum"]().axes[0]
    np.testing.assert_array_equal(
        axes.get_lines()[0].get_xydata(), np.column_stack([NUMBERS[:-1], NUMBERS[:-1] ** -2.0])
    )
    written = [text.get_text() for text in FIGURES["fitted spectrum"]().axes[0].get_legend().get_texts()]
    assert "fitted decay, exponent -2.00 ± 0.01" in written


def test_every_phase_has_its_colour_and_the_edge_its_place():
    axes = FIGURES["phases"]().axes[0]
    mesh = next(artist for artist in axes.collections if isinstance(artist, QuadMesh))
    np.testing.assert_array_equal(np.asarray(mesh.get_array()), [[0, 1, 2], [0, 2, 3]])
    edge = axes.get_lines()[-1].get_xydata()
    np.testing.assert_array_equal(edge, [[1.0, 0.0], [1.5, 0.4]])
    written = [text.get_text() for text in axes.get_legend().get_texts()]
    assert written == ["ordered", "critical", "chaotic", "divergent", "edge of chaos, χ₁ = 1"]


def test_widths_are_labelled_and_the_slope_is_written():
    axes = FIGURES["decay with width"]().axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "16", "64"]
    assert "fitted slope -1.00 ± 0.05" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_measurements_carry_two_standard_errors():
    bars = FIGURES["learning curve"]().axes[0].containers[0]
    segments = bars.lines[2][0].get_segments()
    np.testing.assert_allclose([low[1] for low, _ in segments], 0.9 / NUMBERS[::10])
    np.testing.assert_allclose([high[1] for _, high in segments], 1.3 / NUMBERS[::10])
