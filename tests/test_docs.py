"""Every code block of the documentation runs, every pipeline file in it can be built, and the site
has no dead link.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cli.running import run_here

from tailor.core.specs import build
from tailor.testing.data import tiny_data

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CODE = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


def blocks(page, language):
    return [
        code for kind, code in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language
    ]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder such as the pages assume: events.csv, items.csv, and the data set DATA."""
    monkeypatch.chdir(tmp_path)
    data = tiny_data()
    data.events.write_csv("events.csv")
    data.tables["items"].drop("categories").write_csv("items.csv")
    data.save("DATA")
    return tmp_path


def run(line):
    words = shlex.split(line, comments=True)
    assert words[0] == "tailor", f"a page runs something else: {line}"
    done = run_here(*words[1:])
    assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.parametrize(
    "page",
    [
        page
        for page in CODE
        if page.stem != "README" and blocks(page, "bash") + blocks(page, "python")
    ],
    ids=lambda page: page.stem,
)
def test_blocks_run_in_order(page, shop):
    """First the page's commands, then its Python, in one folder."""
    if page.stem == "tuning":
        pytest.importorskip("optuna", reason="the search needs the extra torch")
    if page.stem == "quickstart":  # it makes DATA itself
        subprocess.run(["rm", "-r", "DATA"], check=True)
    for code in blocks(page, "bash"):
        for line in code.strip().splitlines():
            run(line)
    names = {"__name__": page.stem}
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), names)


def test_the_readme_s_python_runs(shop):
    for code in blocks(ROOT / "README.md", "python"):
        ready = code.replace('["42"]', '["person-001"]').replace(
            'History.of("a", "b")', 'History.of("thing-001", "thing-005")'
        )
        exec(compile(ready, "README.md", "exec"), {})


def test_the_readme_s_commands_exist(shop):
    code = next(code for code in blocks(ROOT / "README.md", "bash") if "data import" in code)
    for line in code.strip().splitlines():
        words = [
            word
            for word in shlex.split(line, comments=True)[1:3]
            if word.isalpha() and word.islower() and word != "default"
        ]
        run(" ".join(["tailor", *words, "--help"]))


@pytest.mark.parametrize(
    "page", [page for page in CODE if blocks(page, "toml")], ids=lambda page: page.stem
)
def test_pipeline_files_can_be_built(page):
    for code in blocks(page, "toml"):
        build(tomllib.loads(code))


@pytest.mark.slow
def test_the_site_builds_without_a_dead_link(tmp_path):
    pytest.importorskip("mkdocs")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").exists()


def test_what_the_page_of_checks_names_is_there():
    page = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    tests, programs = (
        re.findall(r"(tests/[\w/]+\.py)::(\w+)", page),
        re.findall(r"python (benchmarks/[\w/]+\.py)", page),
    )
    gone = [
        f"{file}::{name}"
        for file, name in tests
        if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert len(tests) > 60 and not gone and all((ROOT / program).exists() for program in programs)


def test_the_recommenders_page_is_up_to_date():
    from recommenders_page import page

    assert (ROOT / "docs" / "guide" / "recommenders.md").read_text(encoding="utf-8") == page(), (
        "run python benchmarks/recommenders_page.py"
    )
