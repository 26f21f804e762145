"""Every problem of a pipeline's text is named with its line; nothing outside is reached."""

import pytest

from tailor.core.pipeline_check import check_pipeline, part_tree
from tailor.pipeline.default import pipeline_file

NESTED = """class = "Filter"
rules = ["price < 5"]

[inner]
class = "Fallback"

[[inner.parts]]
class = "CoVisitaton"
window = 3

[[inner.parts]]
class = "Fuse"

[[inner.parts.parts]]
class = "EASE"
l3 = 1.0

[[inner.parts.parts]]
class = "CoVisitation"
window = "many"
"""


@pytest.mark.parametrize("name", ["counting", "default"])
def test_the_pipelines_that_come_along_have_no_problem(name):
    checked = check_pipeline(pipeline_file(name).read_text())
    assert checked.problems == () and checked.method.name == "Filter"
    tree = part_tree(checked.method)
    assert tree.name == "Filter" and tree.class_path == "pipeline.filter.Filter"
    fallback = tree.parts[0]
    assert (fallback.name, fallback.setting) == ("Fallback", "inner")
    assert [part.setting for part in fallback.parts] == ["parts", "parts"]
    assert fallback.parts[0].settings["depth"] == 200


def test_all_problems_are_named_with_their_lines():
    checked = check_pipeline(NESTED)
    assert checked.method is None
    found = {problem.line: problem for problem in checked.problems}
    assert sorted(found) == [8, 16, 20]
    assert 'no class "CoVisitaton"' in found[8].problem
    assert found[8].remedy == 'Did you mean "CoVisitation"?'
    assert found[16].problem == 'EASE has no setting "l3"'
    assert "Known: history_decay" in found[16].remedy
    assert "window" in found[20].problem and "int" in found[20].remedy


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ('class = "EASE"\nl2 = = 3\n', 2, "no TOML"),
        ('class = "EASE', 1, "no TOML"),
        ("", None, "class"),
        ("l2 = 3.0", None, "class"),
        ("class = 7", 1, "class"),
        ('class = "Fuse"\nparts = []\n', 2, "parts"),
        ('class = "Fuse"\nparts = [{class = "EASE"}]\nkind = "both"\n', 3, "kind"),
        ('class = "Filter"', 1, "inner"),
        ('class = "Filter"\nrules = ["price <"]\ninner = {class = "EASE"}', 1, "rule"),
        ('class = "os.system"', 1, "no class"),
        ('class = "SentenceEncoder"', 1, "is a part"),
        ("a = " + "[" * 50_000, None, "nested too deeply"),
    ],
)
def test_a_text_that_describes_nothing_says_what_is_wrong(text, line, part):
    [problem] = check_pipeline(text).problems
    assert part in problem.problem or part in problem.remedy, problem
    assert problem.line == line


@pytest.mark.parametrize(
    ("inner", "part"),
    [
        (
            '{class = "CachedEncoder", inner = {class = "SentenceEncoder"}, folder = "/etc"}',
            "folder",
        ),
        ('{class = "HTTPEncoder", model = "x", base_url = "http://10.0.0.1"}', "base_url"),
        ('{class = "HTTPEncoder", model = "x", api_key_env = "PATH"}', "api_key_env"),
        ('{class = "SentenceEncoder", model = "../../secret"}', "model"),
        ('{class = "HTTPEncoder", model = "x"}', "would call"),
    ],
)
def test_nothing_outside_is_reached(inner, part):
    text = f'class = "Dense"\nencoder = {inner}\n'
    problems = check_pipeline(text).problems
    assert any(part in problem.problem and problem.line == 2 for problem in problems), problems
    allowed = check_pipeline(text, is_outside_allowed=True).problems
    assert not any("machine" in problem.problem for problem in allowed)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('class = "LLMReranker"\nllm = {class = "HTTPModel", model = "x"}\n', "would call"),
        ('class = "ProRank"\nadapter = "/srv/other"\n', "adapter"),
        ('class = "SLLMR"\nscores = "/etc/passwd"\n', "scores"),
        (
            'class = "LLMReranker"\nllm = {class = "TorchModel", model = "x", adapter = "/srv"}\n',
            "adapter",
        ),
    ],
)
def test_defaults_and_methods_reach_nothing_outside_either(text, part):
    pytest.importorskip("torch")
    problems = check_pipeline(text).problems
    assert any(part in problem.problem and problem.line == 2 for problem in problems), problems


def test_a_line_of_blanks_takes_no_longer_than_another():
    text = 'class = "Popularity"\nnote = """\n[' + " " * 99_000 + '\n"""\n'
    assert check_pipeline(text).problems  # a regular expression of before took days here
