"""`tailor profile`, `generate`, `act` and `study`: what they print, and what they refuse."""

import json

import pytest
from typer.testing import CliRunner

from tailor.cli.main import app
from tailor.conversation.popular_assistant import PopularAssistant
from tailor.data.splits import last_out
from tailor.errors import DataError, ModelError
from tailor.profiles.interaction_profile import InteractionProfile
from tailor.ranking.calibrated_score import CalibratedScore
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data
from tailor.writing.recommendation_text import RecommendationText

USER = "person-000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set, a split, and a saved model of each kind."""
    folder, data = tmp_path_factory.mktemp("models"), tiny_data()
    data.save(folder / "data")
    last_out(data).save(folder / "split", folder / "data")
    methods = {
        "profile": InteractionProfile(),
        "text": RecommendationText.tiny(),
        "assistant": PopularAssistant(),
        "popular": Popularity(),
        "clicks": CalibratedScore(Popularity()),
    }
    for name, method in methods.items():
        method.fit(data).save(folder / name, titles=data.item_table)
    return folder


def tailor(*arguments: object, text: str | None = None) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], input=text)
    if result.exception is not None:
        raise result.exception
    return result.output


def known(folder) -> tuple[object, ...]:
    return ("--data", folder / "data", "--user", USER)


def test_a_profile_is_shown_with_its_evidence(folder):
    out = tailor("profile", folder / "profile", *known(folder))
    assert "categories: kettle" in out and "kettle copper stove no" in out and "price_band" in out
    values = json.loads(tailor("profile", folder / "profile", *known(folder), "--json"))
    assert values["user_id"] == USER and values["facts"][0]["evidence"][0]["kind"] == "item"
    assert "0 events" in tailor("profile", folder / "profile")


def test_a_text_is_written_with_its_evidence(folder):
    out = tailor("generate", folder / "text", *known(folder))
    assert "Because you chose" in out and "share" in out
    values = json.loads(tailor("generate", folder / "text", *known(folder), "--json"))
    history = set(tiny_data().queries([USER])[0].history.item_ids)
    assert not set(values["item_ids"]) & history, "seen items are left out"
    about = ("--history", "thing-001", "--context", "item_id=thing-005")
    assert tailor("generate", folder / "text", *about).startswith('"tent canvas pole no 5"')


def test_a_dialogue_is_kept_in_the_terminal(folder):
    out = tailor("act", folder / "assistant", text="a lamp\n\nno brass\n")
    assert out.count("assistant:") == 3 and "How about" in out and "no item left holds lamp" in out
    lines = tailor("act", folder / "assistant", "--json", text="a lamp\n").splitlines()
    assert [json.loads(line)["speaker"] for line in lines] == ["assistant"] * 2


def test_dialogues_are_read_from_a_file(folder, tmp_path):
    path = tmp_path / "turns.jsonl"
    turns = [
        {"dialogue_id": "x", "text": "a lamp"},
        {"dialogue_id": "y", "text": "a tent"},
        {"dialogue_id": "x", "speaker": "assistant", "text": "this?", "item_ids": ["thing-003"]},
        {"dialogue_id": "x", "text": "another", "time_ms": 5},
    ]
    path.write_text("\n".join(map(json.dumps, turns)) + "\n\n", encoding="utf-8")
    lines = tailor("act", folder / "assistant", "--turns", path, "--json").splitlines()
    answers = {one["dialogue_id"]: one for one in map(json.loads, lines)}
    assert list(answers) == ["x", "y"] and "thing-003" not in answers["x"]["item_ids"]
    assert "x assistant:" in tailor("act", folder / "assistant", "--turns", path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"text": 5}', 'line 1: a turn is an object with a "text"'),
        ("[]", "line 1"),
        ('{"text": "x"', "line 1"),
        ('{"text": "x", "time_ms": "5"}', "milliseconds"),
        ('{"text": "x", "item_ids": "a"}', "list of ids"),
        ('{"text": "x", "item_ids": [1]}', "str(1)"),
        ("", "holds no turns"),
    ],
)
def test_a_bad_line_of_turns_is_named(folder, tmp_path, line, says):
    (tmp_path / "turns.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        tailor("act", folder / "assistant", "--turns", tmp_path / "turns.jsonl")
    assert says in str(caught.value)


def test_a_model_of_another_kind_is_refused_with_its_command(folder):
    for command, name, other in (
        ("profile", "text", "tailor generate"),
        ("generate", "assistant", "tailor act"),
        ("act", "popular", "tailor recommend"),
        ("profile", "clicks", "tailor predict"),
        ("recommend", "profile", "tailor profile"),
    ):
        with pytest.raises(ModelError, match=other):
            tailor(command, folder / name)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("Popularity", "evaluate OUT --split"),
        ("InteractionProfile", "profile OUT --history"),
        ("PopularAssistant", "act OUT"),
    ],
)
def test_a_fit_names_the_command_that_comes_next(folder, tmp_path, name, command):
    out = tailor("fit", name, "--split", folder / "split", "--out", tmp_path / "model")
    assert f"Next: tailor {command.replace('OUT', str(tmp_path / 'model'))}" in out


def test_a_setting_that_is_needed_is_named(folder, tmp_path):
    with pytest.raises(ModelError, match='needs the setting "recommender": write it to a pipeline'):
        tailor(
            "fit", "RecommendationText", "--split", folder / "split", "--out", tmp_path / "model"
        )


def test_a_text_that_nothing_reads_is_refused(folder):
    with pytest.raises(DataError, match="reads no text"):
        tailor("profile", folder / "profile", "--text", "I like tea")


def test_a_predictor_that_cannot_explain_says_so(folder):
    with pytest.raises(ModelError, match="cannot explain its predictions"):
        tailor("predict", folder / "clicks", "--items", "thing-001", "--explain")


def test_a_study_runs_over_models_and_classes(folder):
    common = ("EvaluationSurvey", "Popularity", "visits=CoVisitation", "--set", "k=5")
    chosen = ("--set", 'metrics=["NDCG", "HR"]')
    out = tailor("study", *common, *chosen, "--data", folder / "data")
    assert "users that a paired test needs" in out and "NDCG@5" in out
    values = json.loads(tailor("study", *common, *chosen, "--split", folder / "split", "--json"))
    assert values["advice"] and "NDCG@5" in values["users_needed"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("EvaluationSurvy", "--data", "data"), 'Did you mean "EvaluationSurvey"'),
        (("EvaluationSurvey", "Popularity"), "name the data"),
        (("EvaluationSurvey", "--set", "k"), "write NAME=VALUE"),
        (("EvaluationSurvey", "Popularity", "Popularity", "--data", "data"), "write NAME=METHOD"),
        (("EvaluationSurvey", "Nothing", "--data", "data"), 'no class "Nothing"'),
        (("EvaluationSurvey", "--set", "k=five", "--data", "data"), "must be int"),
    ],
)
def test_a_mistake_in_a_study_is_quoted(folder, arguments, says):
    whole = [folder / "data" if one == "data" else one for one in arguments]
    with pytest.raises((DataError, ModelError)) as caught:
        tailor("study", *whole)
    assert says in str(caught.value)
