"""The page is complete, self-contained, and its numbers are the analysis's."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from ntkit.analysis import depth_limit
from ntkit.analysis.spectral import in_table_rows
from ntkit.kernels import RBF
from ntkit.nn import Dense, Erf, Serial
from ntkit.report import render_report
from ntkit.report.outlook import convergence, order_and_chaos
from ntkit.report.text import fixed, number, percent, point_groups
from ntkit.theory import DependentPoints, convergence_certificate, phase

SECTIONS = {
    "data",
    "network",
    "scores",
    "predictions",
    "calibration",
    "training",
    "spectrum",
    "learning-times",
    "outlook",
    "learning-curve",
    "making",
}
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects ids, addresses, table cells; checks that tags are balanced."""

    def __init__(self, html):
        super().__init__()
        self.ids, self.addresses, self.rows, self.open, self.images = set(), [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "id" in attributes:
            self.ids.add(attributes["id"])
        self.addresses += [attributes[name] for name in ("src", "href", "srcset") if name in attributes]
        if tag == "img":
            self.images.append(attributes)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module", params=["regression", "classification"])
def case(request, regression_analysis, classification_analysis):
    analysis = {"regression": regression_analysis, "classification": classification_analysis}[request.param]
    html = render_report(analysis, "a <title> & more")
    return analysis, html, Page(html)


def test_every_section_is_there(case):
    _, _, page = case
    assert page.ids >= SECTIONS


def test_nothing_is_loaded_from_outside(case):
    _, html, page = case
    assert len(page.addresses) == 7
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    visible = re.sub(r'src="data:[^"]*"', "", html)
    assert not re.search(r"https?:|//[a-z]|<script|@import|url\(", visible)
    for address in page.addresses:
        assert b"<svg" in base64.b64decode(address.partition(",")[2])


def test_the_score_table_has_the_numbers_of_the_analysis(case):
    analysis, _, page = case
    rows = {row[0]: row[1:] for row in page.rows if row}
    for entry in analysis.scores:
        scores = entry.scores
        if analysis.task == "regression":
            shown = [number(scores.rmse), number(scores.mae), fixed(scores.r2), fixed(scores.log_density)]
            assert rows[entry.name] == [*shown, percent(scores.coverage)]
        else:
            assert rows[entry.name] == [
                percent(scores.accuracy),
                number(scores.log_loss),
                number(scores.brier),
            ]


def test_the_page_says_which_distribution_is_shown(case):
    analysis, html, _ = case
    kernel = analysis.model.kernel.upper()
    assert f"predicted by the {kernel} posterior" in html
    assert "Two different distributions" in html


def test_the_page_says_what_the_spectrum_predicts(case):
    from ntkit.kernels import NNGP, NTK

    analysis, html, _ = case
    model = analysis.model
    text = re.sub(r"\s+", " ", html.partition('id="outlook"')[2].partition('id="learning-curve"')[0])
    gram = NTK(model.network)(model.x)
    eigenvalues = np.linalg.eigvalsh(gram)
    assert f"smallest eigenvalue {number(float(eigenvalues[0]))} ±" in text
    assert f"at least as fast as exp(−{number(2.0 * eigenvalues[0] / len(gram), 3)} t)" in text
    assert f"up to {number(2.0 * len(gram) / eigenvalues[-1], 3)}" in text
    if model.kernel == "nngp":
        eigenvalues = np.linalg.eigvalsh(NNGP(model.network)(model.x))
    dimension = float(np.sum(eigenvalues / (eigenvalues + model.noise)))
    assert f"{number(dimension, 3)} of 45 directions of the {model.kernel.upper()}" in text
    curve = analysis.outlook.curve
    worst = max(abs(float(p / m) - 1.0) for p, m in zip(curve.predicted, curve.measured, strict=True))
    assert f"by at most {percent(worst)}, at" in text
    # One hidden layer of ReLUs at the critical scale, with biases: variances grow with depth.
    assert "divergent at σ_w = 1.41" in text
    assert "this network has 1 hidden layer<" in text


def test_certificates_without_proof_are_worded_as_such():
    x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    singular = in_table_rows(convergence_certificate(RBF(), x), np.array([7, 20, 21]))
    assert "not to zero loss for all targets" in convergence(singular)
    assert convergence(singular).endswith("duplicates 7, 20")
    # A correlation that differs from 1, by less than entries of kernels are trusted to.
    near = np.array([[0.0], [1e-6], [1.0]])
    assert convergence(convergence_certificate(RBF(), near)).startswith("undecided")


def test_depth_limits_are_worded_as_such():
    x = np.eye(3)
    chaotic = depth_limit(Serial(Dense(8, 2.0), Erf(), Dense(8, 2.0, 0.3), Erf(), Dense(1)), x)
    found = phase(Erf(), 2.0, 0.3)
    assert order_and_chaos(chaotic) == (
        f"chaotic at σ_w = 2, σ_b = 0.3: χ₁ = {number(found.slope, 3)}, correlation depth ξ_c = "
        f"{number(found.correlation_depth, 3)} layers, trainable to about {number(found.trainable_depth, 3)} layers; "
        "this network has 2 hidden layers"
    )
    assert order_and_chaos(depth_limit(Dense(1), x)) == "not applicable: the network has no hidden layer"


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ((DependentPoints((3, 7), "duplicates"),), "duplicates 3, 7"),
        (
            (DependentPoints(tuple(range(10)), "dependent"), DependentPoints((1, 2), "collinear")),
            "dependent 0, 1, 2, 3, 4, 5, 6, 7 and 2 more; collinear 1, 2",
        ),
        (
            tuple(DependentPoints((i, i + 1), "duplicates") for i in range(0, 20, 2)),
            "; ".join(f"duplicates {i}, {i + 1}" for i in range(0, 16, 2)) + "; and 2 more groups",
        ),
    ],
)
def test_groups_of_points_are_listed_briefly(groups, text):
    assert point_groups(groups) == text


def test_it_is_made_for_phones_and_for_print(case):
    _, html, page = case
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "@media print" in html
    assert "max-width: 34rem; height: auto" in html
    assert all(image["alt"] for image in page.images)


def test_names_are_escaped(case):
    _, html, _ = case
    assert "a &lt;title&gt; &amp; more" in html


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("inf"), "∞"),
        (0.0, "0"),
        (-1.5, "−1.5"),
        (123456.7, "123457"),
        (1234567.0, "1.235·10⁶"),
        (2.5e-7, "2.5·10⁻⁷"),
        (0.00123456, "0.001235"),
    ],
)
def test_numbers_are_written_for_readers(value, text):
    assert number(value) == text


def test_fixed_decimals_never_show_minus_zero():
    assert fixed(-0.0001) == "0.000"
    assert fixed(None) == percent(None) == "–"
    assert (percent(0.95), percent(0.9459), percent(-0.415)) == ("95 %", "94.6 %", "−41.5 %")
