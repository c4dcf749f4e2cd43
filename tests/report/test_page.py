"""The page is complete, self-contained, and its numbers are the analysis's."""

import base64
import re
from html.parser import HTMLParser

import pytest

from ntkit.report import render_report
from ntkit.report.text import fixed, number, percent

SECTIONS = {
    "data",
    "network",
    "scores",
    "predictions",
    "calibration",
    "training",
    "spectrum",
    "learning-times",
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
    assert len(page.addresses) == 6
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
    assert (percent(0.95), percent(0.9459)) == ("95 %", "94.6 %")
