"""Every example a reader can copy runs: `>>>` in docstrings, and the Python blocks of README.md and docs/.

The docstrings are read from the source rather than from the imported objects, because the type-checking
import hook of the tests wraps functions, and `doctest` passes over wrapped functions silently.
"""

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SOURCE = REPOSITORY / "src"
# Several seconds to half a minute each; `make check` runs them with the others.
LONG = ("README.md", "notes.md", "finite_networks.md", "slips.md", "nn.md")
LONG_MODULES = (
    "circle_experiments.py",
    "composed_sketch.py",
    "experiments.py",
    "image_scaler.py",
    "linearization_gap.py",
    "tangent_experiments.py",
)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PARSER = doctest.DocTestParser()
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def documented(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    """Name, line and docstring of the module and of every class and function in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring and ">>>" in docstring:
                yield getattr(node, "name", "module"), node.body[0].lineno - 1, docstring


def examples() -> Iterator[tuple[Path, str, int, str]]:
    for path in sorted((SOURCE / "ntkit").rglob("*.py")):
        yield from ((path, *found) for found in documented(ast.parse(path.read_text())))


EXAMPLES = list(examples())
PAGES = [
    page
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    if PYTHON_BLOCK.search(page.read_text())
]


def run(text: str, names: dict, title: str, path: Path, line: int) -> None:
    """Run doctest examples and fail with doctest's own report of what was expected and got; `names` gains theirs."""
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    test = PARSER.get_doctest(text, names, title, str(path), line)
    result = runner.run(test, out=report.append, clear_globs=False)
    names.update(test.globs)
    assert result.attempted > 0
    assert result.failed == 0, "".join(report)


def test_there_are_examples():
    assert EXAMPLES
    assert PAGES


@pytest.mark.parametrize(
    ("path", "title", "line", "docstring"),
    [
        pytest.param(*example, marks=[pytest.mark.slow] if example[0].name in LONG_MODULES else [])
        for example in EXAMPLES
    ],
    ids=[f"{path.relative_to(SOURCE)}:{title}" for path, title, _, _ in EXAMPLES],
)
def test_the_examples_of_a_docstring_run(path, title, line, docstring, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = path.relative_to(SOURCE).with_suffix("").parts
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    run(docstring, vars(module).copy(), title, path, line)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page.name in LONG else []) for page in PAGES],
    ids=[str(page.relative_to(REPOSITORY)) for page in PAGES],
)
def test_the_python_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, names = page.read_text(), {"__name__": "__main__"}
    for block in PYTHON_BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        if block[1].lstrip().startswith(">>>"):
            run(block[1], names, page.name, page, line)
        else:
            exec(compile("\n" * line + block[1], str(page), "exec"), names)
