"""Check the style rules that ruff does not know, over the package or the files named.

    python .ci/style.py              a table of the figures and their limits; exit code 1 past a limit
    python .ci/style.py --list       every offending place too
    python .ci/style.py tailor/nn    the same for a folder or files

The rules are in CONTRIBUTING.md. Undocumented settings are looked for among the public classes of
the files: every annotated field with a default in a dataclass needs a string under it, where the
class (or a base of it in the same file) is a method or a port.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = 100
MAX_WORDS = 15  # of a docstring's first sentence, 90th percentile
VAGUE = frozenset(
    [
        "one",
        "each",
        "found",
        "said",
        "made",
        "given",
        "asked",
        "told",
        "some",
        "about",
        "kept",
        "what",
        "how",
        "there",
        "at",
        "of",
        "by",
        "to",
        "known",
        "wanted",
        "own",
        "more",
        "rest",
        "way",
        "where",
        "place",
        "shown",
    ]
)
OPENINGS = ("What", "Of", "Who", "Whether", "Whose", "Those", "That", "How")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (ast.Module, ast.ClassDef, *DEFINITIONS)


@dataclass
class Figures:
    """Measurements of a set of files."""

    code_lines: int = 0
    function_lines: list[int] = field(default_factory=list)
    function_nodes: list[int] = field(default_factory=list)
    nodes_per_line: list[float] = field(default_factory=list)
    sentence_words: list[int] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)
    """Offending places by rule, as path:line: text."""

    def note(self, rule: str, path: Path, line: int, text: str) -> None:
        """Add an offending place."""
        self.places.setdefault(rule, []).append(f"{path}:{line}: {text}")

    def count(self, rule: str) -> int:
        """Return how many places offend against a rule."""
        return len(self.places.get(rule, ()))


def measure(paths: list[Path]) -> Figures:
    """Measure Python files."""
    figures = Figures()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines = text.splitlines()
        measure_lines(figures, path, lines, tree)
        for node in ast.walk(tree):
            measure_names(figures, path, node)
            measure_docstring(figures, path, node)
            if isinstance(node, DEFINITIONS):
                measure_function(figures, path, node, lines)
            if isinstance(node, ast.ClassDef):
                measure_settings(figures, path, node)
            if isinstance(node, ast.IfExp) and any(
                isinstance(inner, ast.IfExp) for inner in ast.walk(node) if inner is not node
            ):
                figures.note("nested conditional", path, node.lineno, ast.unparse(node)[:80])
    return figures


def measure_lines(figures: Figures, path: Path, lines: list[str], tree: ast.Module) -> None:
    """Count code lines and find long lines and formatting that is switched off."""
    tables = constant_tables(tree)
    for number, line in enumerate(lines, 1):
        figures.code_lines += bool(line.strip()) and not line.lstrip().startswith("#")
        if len(line) > WIDTH:
            figures.note("line over 100 columns", path, number, line.strip()[:60])
        if re.search(r"# fmt: (skip|off)", line) and number not in tables:
            figures.note("fmt: skip outside constant tables", path, number, line.strip()[:60])


def constant_tables(tree: ast.Module) -> set[int]:
    """Return the lines of module-level assignments of literals."""
    lines: set[int] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            try:
                ast.literal_eval(node.value)
            except ValueError:
                continue
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def measure_names(figures: Figures, path: Path, node: ast.AST) -> None:
    """Find vague names that are bound."""
    is_stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    name = node.id if is_stored else node.arg if isinstance(node, ast.arg) else ""
    if name in VAGUE:
        figures.note("vague name", path, node.lineno, name)


def measure_docstring(figures: Figures, path: Path, node: ast.AST) -> None:
    """Find docstrings with a forbidden opening and count the words of first sentences."""
    docstring = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
    if not docstring:
        return
    first = re.split(r"(?<=[.!?:])\s|\n\n", docstring, maxsplit=1)[0]
    figures.sentence_words.append(len(first.split()))
    line = node.body[0].lineno
    if len(first.split()) > 2 * MAX_WORDS:
        figures.note("first sentence far too long", path, line, first[:70])
    if first.split()[0].strip(",") in OPENINGS:
        figures.note("docstring opening", path, line, first[:70])


def measure_function(
    figures: Figures, path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]
) -> None:
    """Measure the size and density of a function."""
    own_lines = lines[node.lineno - 1 : node.end_lineno]
    code = [line for line in own_lines if line.strip() and not line.lstrip().startswith("#")]
    docstring = 0
    if ast.get_docstring(node) is not None:
        text = node.body[0]
        docstring = sum(bool(line.strip()) for line in lines[text.lineno - 1 : text.end_lineno])
    nodes = sum(1 for _ in ast.walk(node))
    figures.function_lines.append(len(own_lines))
    figures.function_nodes.append(nodes)
    if len(code) - docstring >= 5:
        figures.nodes_per_line.append(nodes / (len(code) - docstring))
    if len(own_lines) > 60:
        figures.note("function over 60 lines", path, node.lineno, f"{node.name}: {len(own_lines)}")


def measure_settings(figures: Figures, path: Path, node: ast.ClassDef) -> None:
    """Find settings of public dataclasses that have no description."""
    is_dataclass = any("dataclass" in ast.unparse(item) for item in node.decorator_list)
    if not is_dataclass or node.name.startswith("_"):
        return
    for position, statement in enumerate(node.body):
        if not is_setting(statement):
            continue
        follower = node.body[position + 1] if position + 1 < len(node.body) else None
        if not (isinstance(follower, ast.Expr) and isinstance(follower.value, ast.Constant)):
            name = ast.unparse(statement.target)
            figures.note("setting without a description", path, statement.lineno, name)


def is_setting(statement: ast.stmt) -> bool:
    """Return whether a statement of a class body is a field that a caller may set."""
    return (
        isinstance(statement, ast.AnnAssign)
        and statement.value is not None
        and "ClassVar" not in ast.unparse(statement.annotation)
        and "init=False" not in ast.unparse(statement.value)
    )


def quantile(values: list[int], share: float) -> int:
    """Return the value at a share of the sorted values, 0 for none."""
    return sorted(values)[round(share * (len(values) - 1))] if values else 0


def rows_of(figures: Figures) -> Iterator[tuple[str, float, float]]:
    """Yield (figure, value, limit)."""
    thousand = max(figures.code_lines, 1) / 1000
    yield "vague names bound per 1,000 lines", figures.count("vague name") / thousand, 1
    for rule in (
        "fmt: skip outside constant tables",
        "line over 100 columns",
        "nested conditional",
        "docstring opening",
        "first sentence far too long",
        "setting without a description",
    ):
        yield rule, figures.count(rule), 0
    density = sum(figures.nodes_per_line) / max(len(figures.nodes_per_line), 1)
    # the aim is 11.5 and 210: these two limits go down as functions are split, never up
    yield "syntax-tree nodes per line, mean", density, 12.15
    yield "function lines, p90", quantile(figures.function_lines, 0.9), 30
    yield "nodes per function, p90", quantile(figures.function_nodes, 0.9), 222
    yield "words of a docstring's first sentence, p90", quantile(figures.sentence_words, 0.9), 15


def main(arguments: list[str]) -> int:
    """Print the figures and return the exit code."""
    names = [argument for argument in arguments if argument != "--list"] or ["tailor"]
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        paths += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    figures = measure(paths)
    has_failed = False
    for figure, value, limit in rows_of(figures):
        has_failed |= value > limit
        print(f"{'PAST' if value > limit else 'ok':5}{figure:48}{value:8.1f}  limit {limit:g}")
    if "--list" in arguments:
        for places in figures.places.values():
            print(*places, sep="\n")
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
