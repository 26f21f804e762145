"""Descriptions of settings: the string under a field of a dataclass is its documentation.

    l2: float = 250.0
    \"\"\"Ridge penalty; larger values keep fewer, more popular neighbours.\"\"\"

Editors and the API reference read the same strings.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap


@functools.cache
def setting_descriptions(cls: type) -> dict[str, str]:
    """Return the description of each field of a dataclass, by field name.

    A field described by several classes of the inheritance chain has the description of the
    nearest one. Fields without a description are left out.
    """
    descriptions: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base is not object and dataclasses.is_dataclass(base):
            descriptions |= _field_strings(base)
    return descriptions


def _field_strings(cls: type) -> dict[str, str]:
    """Return the string under each annotated field of this class body, on one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    strings: dict[str, str] = {}
    for statement, follower in itertools.pairwise(body):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        value = follower.value if isinstance(follower, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            strings[statement.target.id] = " ".join(value.value.split())
    return strings
