"""The architecture as a test: imports point one way, only public JAX, every file short and introduced."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "src" / "ntkit"

# A module may import from its own folder and from folders further left; `ntkit/__init__.py` may import all.
ORDER = [
    *(
        "errors",
        "numerics",
        "nn",
        "zoo",
        "engines",
        "kernels",
        "empirical",
        "torch",
        "solvers",
        "inference",
        "dynamics",
    ),
    *(
        "rkhs",
        "theory",
        "scale",
        "estimators",
        "tables",
        "images",
        "model",
        "analysis",
        "plotting",
        "report",
        "cli",
    ),
]
PRIVATE_JAX = ("jax._src", "jax.core", "jax.interpreters", "jaxlib")
LONGEST_FILE = 400

MODULES = sorted(PACKAGE.rglob("*.py"))
FILES = MODULES + sorted(path for folder in ("tests", "docs") for path in (REPOSITORY / folder).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def folder_of(module: str) -> str:
    """The folder of `ntkit` in which a module lies: `ntkit.nn.dense` -> `nn`, `ntkit` -> `` (the facade)."""
    return module.partition(".")[2].partition(".")[0]


def dotted_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every imported module or name, dotted, with its line; imports inside functions count too."""
    package = (
        dotted_name(path).split(".") if path.name == "__init__.py" else dotted_name(path).split(".")[:-1]
    )
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def attribute_chains(path: Path) -> Iterator[tuple[int, str]]:
    """Every `a.b.c` written in the file, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            parts, value = [node.attr], node.value
            while isinstance(value, ast.Attribute):
                parts.append(value.attr)
                value = value.value
            if isinstance(value, ast.Name):
                yield node.lineno, ".".join([value.id, *reversed(parts)])


def offences_against_order(path: Path) -> list[str]:
    home = folder_of(dotted_name(path))
    if not home:
        return []
    offences = []
    for line, imported in imports(path):
        if imported.split(".")[0] != "ntkit":
            continue
        folder = folder_of(imported)
        if folder not in ORDER:
            offences.append(f"line {line} imports {imported} from the facade; import where it is defined")
        elif ORDER.index(folder) > ORDER.index(home):
            offences.append(f"line {line} imports {imported}, but {folder} lies above {home}")
    return offences


def uses_of_private_jax(path: Path) -> list[str]:
    return [
        f"line {line}: {dotted}"
        for line, dotted in [*imports(path), *attribute_chains(path)]
        if any(dotted == private or dotted.startswith(private + ".") for private in PRIVATE_JAX)
    ]


def test_the_package_was_found():
    assert len(MODULES) > 10


def test_every_folder_has_its_place_in_the_order():
    folders = {folder_of(dotted_name(path)) for path in MODULES} - {""}
    assert folders <= set(ORDER), f"give {folders - set(ORDER)} a place in ORDER"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_down_the_order(path):
    assert offences_against_order(path) == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_only_public_jax_is_used(path):
    assert uses_of_private_jax(path) == []


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_are_short_and_introduced(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    assert ast.get_docstring(ast.parse(text)), "begin the file by saying what it is for"


@pytest.mark.parametrize(
    "line",
    [
        "from ntkit.kernels import NTK",
        "import ntkit.kernels.infinite",
        "from ..kernels.base import Kernel",
        "from ntkit import NTK",
        "def late():\n    from ntkit.kernels import NTK",
    ],
)
def test_an_import_up_the_order_is_caught(line, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "ntkit")
    offender = tmp_path / "ntkit" / "nn" / "dense.py"
    offender.parent.mkdir(parents=True)
    offender.write_text(line)
    assert offences_against_order(offender)


@pytest.mark.parametrize(
    "line",
    ["from jax import core", "import jax._src.dtypes", "from jax.interpreters import ad", "jax.core.Tracer"],
)
def test_private_jax_is_caught(line, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "ntkit")
    offender = tmp_path / "ntkit" / "nn" / "dense.py"
    offender.parent.mkdir(parents=True)
    offender.write_text(line)
    assert uses_of_private_jax(offender)
