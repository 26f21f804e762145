"""Lines of the log: their own fields stay, whatever a call adds."""

import ast
import json
import logging
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import tailor
from tailor.service.middleware import RESERVED, STANDARD, JsonLines
from tailor.store.schema import metadata

PACKAGE = Path(tailor.__file__).parent
LEVELS = ("debug", "info", "warning", "error", "exception", "critical", "log")


@pytest.mark.parametrize("name", RESERVED)
def test_a_field_of_every_line_is_not_overwritten(name):
    record = logging.makeLogRecord({"msg": "model not in place", "levelname": "ERROR"})
    record.__dict__[name] = "other"
    line = json.loads(JsonLines().format(record))
    assert (line["what"], line["level"]) == ("model not in place", "error")
    assert line[f"{name}_"] == "other" and line["time"] != "other"


def calls_with_extra(tree):
    """Yield the calls of a logger that add fields, and the function around each."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for call in ast.walk(function):
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and call.func.attr in LEVELS
                    and any(keyword.arg == "extra" for keyword in call.keywords)
                ):
                    yield function, call


def added_names(function, call):
    """Return the names that a call adds, None where they are not written in its function."""
    value = next(keyword.value for keyword in call.keywords if keyword.arg == "extra")
    if isinstance(value, ast.Name):
        assigned = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == value.id
        ]
        value = assigned[0] if len(assigned) == 1 else value
    if not isinstance(value, ast.Dict):
        return None
    return {ast.literal_eval(name) for name in value.keys}


def test_no_call_adds_a_field_that_every_line_has():
    unknown, names = [], {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "extra=" in text:
            for function, call in calls_with_extra(ast.parse(text)):
                found = added_names(function, call)
                place = f"{path.relative_to(PACKAGE).as_posix()}:{function.name}"
                if found is None:
                    unknown.append(place)
                else:
                    names[f"{place}:{call.lineno}"] = found
    taken = STANDARD | set(RESERVED)
    assert len(names) > 5 and {place for place, found in names.items() if found & taken} == set()
    # counts of deleted rows by table
    assert unknown == ["service/state.py:start"] and not set(metadata.tables) & taken
