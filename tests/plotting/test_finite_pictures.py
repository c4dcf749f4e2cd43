"""Pictures of finite networks show the numbers they are given, legibly."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from ntkit import plotting, track
from ntkit.theory import FunctionsOnCircle, KernelOnCircle, LinearizationGap

GENERATOR = np.random.default_rng(0)
GRAMS = [matrix @ matrix.T for matrix in GENERATOR.normal(size=(7, 4, 6))]
STEPS = (0, 1, 2, 5, 10, 30, 100)
TRACK = track(
    None, dict(zip(STEPS, GRAMS, strict=True)), y=GENERATOR.normal(size=(4, 1)), kernel_of=lambda gram: gram
)
ANGLES = np.linspace(-3.0, 3.0, 9)
WIDTHS = np.array([10.0, 40.0])
KERNELS = KernelOnCircle(
    ANGLES, WIDTHS, *GENERATOR.uniform(size=(2, 2, 3, 9)), GENERATOR.uniform(size=9), 200, False
)
FUNCTIONS = FunctionsOnCircle(
    ANGLES,
    WIDTHS,
    GENERATOR.normal(size=(2, 3, 9)),
    np.cos(ANGLES),
    np.ones(9),
    ANGLES[:2],
    np.ones(2),
    10,
    False,
)
GAP = LinearizationGap(WIDTHS, GENERATOR.uniform(0.1, 1.0, size=(2, 3, 6)), 0.1, False)

FIGURES = {
    "track": lambda: plotting.plot_kernel_track(TRACK),
    "a single moment": lambda: plotting.plot_kernel_track(
        track(None, GRAMS[:1], kernel_of=lambda gram: gram)
    ),
    "kernel on the circle": lambda: plotting.plot_kernel_on_circle(KERNELS),
    "functions on the circle": lambda: plotting.plot_functions_on_circle(FUNCTIONS),
    "gap": lambda: plotting.plot_linearization_gap(GAP),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_is_drawn_and_its_letters_are_not_tiny(name):
    figure = FIGURES[name]()
    sizes = [text.get_fontsize() for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize"))]
    assert min(sizes) >= 7.0
    assert all(axes.get_xlabel() or axes.get_label() == "<colorbar>" for axes in figure.axes)
    ElementTree.fromstring(plotting.as_svg(figure))


def test_a_track_is_shown_as_it_is():
    change, alignment, spectrum, distances, _ = FIGURES["track"]().axes
    np.testing.assert_array_equal(change.get_lines()[0].get_ydata(), TRACK.relative_change)
    np.testing.assert_array_equal(alignment.get_lines()[0].get_ydata(), TRACK.alignment)
    np.testing.assert_array_equal(spectrum.get_lines()[1].get_ydata(), TRACK.eigenvalues[:, 1])
    np.testing.assert_array_equal(distances.get_images()[0].get_array(), TRACK.distance)
    assert change.get_xscale() == "symlog"
    names = [label.get_text() for label in distances.get_xticklabels()]
    assert names[0] == "0" and names[-1] == "100"


def test_without_targets_the_effective_rank_takes_the_place_of_the_alignment():
    panel = plotting.plot_kernel_track(replace(TRACK, alignment=None)).axes[1]
    assert panel.get_ylabel() == "effective rank"
    np.testing.assert_array_equal(panel.get_lines()[0].get_ydata(), TRACK.effective_rank)


def test_eigenvalues_that_are_rounding_are_not_shown():
    eigenvalues = np.column_stack([np.full(7, 4.0), np.full(7, 1e-8), np.full(7, -1e-9)])
    spectrum = plotting.plot_kernel_track(replace(TRACK, eigenvalues=eigenvalues)).axes[2]
    assert [np.isfinite(line.get_ydata()).all() for line in spectrum.get_lines()] == [True, False, False]


def test_every_width_of_the_circle_has_its_panel():
    for name, lines in (("kernel on the circle", 3 + 3 + 1), ("functions on the circle", 3 + 1 + 2 + 1)):
        figure = FIGURES[name]()
        assert [axes.get_title() for axes in figure.axes] == ["width 10", "width 40"]
        assert len(figure.axes[1].get_lines()) == lines
    first = FIGURES["kernel on the circle"]().axes[1].get_lines()
    np.testing.assert_array_equal(first[0].get_ydata(), KERNELS.before[1, 0])
    np.testing.assert_array_equal(first[3].get_ydata(), KERNELS.after[1, 0])
    np.testing.assert_array_equal(first[6].get_ydata(), KERNELS.limit)
    lines = FIGURES["functions on the circle"]().axes[1].get_lines()
    np.testing.assert_array_equal(lines[3].get_ydata(), FUNCTIONS.mean)
    np.testing.assert_array_equal(lines[4].get_ydata(), FUNCTIONS.quantile(0.1))


def test_a_gap_is_the_mean_over_networks_from_the_first_step_on():
    line = FIGURES["gap"]().axes[0].get_lines()[1]
    np.testing.assert_array_equal(line.get_ydata(), GAP.paths[1].mean(axis=0)[1:])
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 6))
    assert line.get_label() == "width 40"
