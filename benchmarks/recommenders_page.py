"""docs/guide/recommenders.md: every recommender with its settings, from the classes themselves.

python benchmarks/recommenders_page.py
"""

import dataclasses
import inspect
import typing
from pathlib import Path

from tailor.core.search_space import Choices, Range
from tailor.core.settings import setting_descriptions
from tailor.core.specs import discover

ROOT = Path(__file__).parents[1]


def page() -> str:
    parts = [
        "# Recommenders",
        "",
        "Made by `python benchmarks/recommenders_page.py` from the classes; do not edit.",
    ]
    for found in discover():
        if found.cls is None:
            continue
        parts += [
            "",
            f"## {found.cls.__name__}",
            "",
            f"`{found.path}`",
            "",
            inspect.cleandoc(found.cls.__doc__ or ""),
            "",
            "| setting | default | what it is |",
            "|---|---|---|",
        ]
        descriptions = setting_descriptions(found.cls)
        for one in dataclasses.fields(found.cls):
            if one.init:
                parts.append(
                    f"| `{one.name}` | {default(one)} |"
                    f" {descriptions.get(one.name, '').replace('|', chr(92) + '|')}{searched(found.cls, one.name)} |"
                )
    return "\n".join([*parts, ""])


def default(one: dataclasses.Field) -> str:
    if one.default is not dataclasses.MISSING:
        return f"`{one.default!r}`"
    return (
        f"`{one.default_factory()!r}`"
        if one.default_factory is not dataclasses.MISSING
        else "needed"
    )


def searched(cls: type, name: str) -> str:
    """What `tailor tune` searches of a setting, where the class declares it."""
    for one in getattr(typing.get_type_hints(cls, include_extras=True)[name], "__metadata__", ()):
        if isinstance(one, Range):
            return f" (tuned from {one.low:g} to {one.high:g}{', log' if one.log else ''})"
        if isinstance(one, Choices):
            return f" (tuned: {', '.join(map(str, one.values))})"
    return ""


if __name__ == "__main__":
    (ROOT / "docs" / "guide" / "recommenders.md").write_text(page(), encoding="utf-8")
