"""`.ci/dependencies.py` finds what is wrong, and never says that somebody looked where nobody did."""

import importlib.util
import sys
from email.message import Message
from pathlib import Path

import pytest

pytest.importorskip("packaging")
SPEC = importlib.util.spec_from_file_location(
    "dependencies", Path(__file__).parents[1] / ".ci" / "dependencies.py"
)
dependencies = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(dependencies)


class Installed:
    def __init__(self, name, version="1.0", licence="MIT", requires=()):
        self.metadata = Message()
        self.metadata["Name"], self.metadata["License-Expression"] = name, licence
        self.version, self.requires = version, list(requires)


def of(*packages):
    return {one.metadata["Name"]: one for one in packages}


def test_another_version_a_missing_pin_and_a_pin_that_nothing_needs_are_found():
    installed = of(
        Installed("a", "1.0+cpu", requires=["b>=1", "c; extra == 'more'"]),
        Installed("b", "2.0"),
        Installed("c"),
        Installed("d"),
    )
    project = {"dependencies": ["a"], "optional-dependencies": {"x": ["gone"]}}
    needed, missing = dependencies.needed_by(project, installed)
    assert needed == {"a", "b"} and missing == {"gone"}
    assert list(dependencies.wrong_versions(installed, {"a": "1.0"}, needed)) == [
        "b 2.0 is needed and not pinned: add it to constraints.txt"
    ]
    assert list(dependencies.wrong_versions(installed, {"a": "1.0", "b": "1.9"}, needed)) == [
        "b 2.0 is installed, 1.9 is pinned"
    ]
    pinned = {"a": "1.0", "b": "2.0", "d": "1.0", "of the gone": "1.0"}
    assert list(dependencies.unused(pinned, needed, missing, installed)) == [
        "d is pinned and nothing needs it: take it out of constraints.txt"
    ]
    assert len(list(dependencies.unused(pinned, needed, set(), installed))) == 2
    assert dependencies.needed_by({**project, "dependencies": ["a[more]"]}, installed)[0] == {
        "a",
        "b",
        "c",
    }


@pytest.mark.parametrize(
    ("licence", "good"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("LGPL-3.0-only", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0", False),
        ("GNU General Public License v3", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_licences_are_of_the_list(licence, good):
    assert (not list(dependencies.bad_licences(of(Installed("p", licence=licence))))) == good


@pytest.mark.parametrize(
    ("prints", "looked"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', True),
        ("", False),
        ("no json", False),
        ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', False),
    ],
)
def test_a_service_that_does_not_answer_is_not_told_as_no_weakness(monkeypatch, prints, looked):
    monkeypatch.setitem(sys.modules, "pip_audit", object())
    monkeypatch.setattr(
        dependencies.subprocess,
        "run",
        lambda *_, **__: type("Done", (), {"stdout": prints, "returncode": 0}),
    )
    found, why_not = dependencies.weaknesses()
    assert found == [] and (why_not == "") == looked
    if not looked:
        assert "does not answer" in why_not


def test_a_known_weakness_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pip_audit", object())
    one = (
        '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions":'
        ' ["2"]}]}]}'
    )
    monkeypatch.setattr(
        dependencies.subprocess,
        "run",
        lambda *_, **__: type("Done", (), {"stdout": one, "returncode": 1}),
    )
    assert dependencies.weaknesses() == (["a 1: X-1, mended in 2"], "")
