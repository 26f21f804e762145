"""Texts asked for as JSON."""

from tailor.llm.scripted import ScriptedModel
from tailor.llm.text_fields import TextField
from tailor.llm.torch_model import TorchModel

FIELD = TextField("profile", "Write the profile.", 10)


def test_a_text_is_read_from_json_and_from_bare_words():
    assert FIELD.read('```json\n{"profile": "likes\\n tents"}\n```') == "likes tents"
    assert FIELD.read("likes  tents") == "likes tents"
    assert FIELD.read('{"other": 1}') == ""
    assert FIELD.read('{"profile": null}') == ""


def test_answers_keep_their_order_and_failures_are_empty():
    model = ScriptedModel(reply='{"profile": "tents"}')
    assert [text for text, _ in FIELD.asked(model, ["a", "b"])] == ["tents", "tents"]
    failing = FIELD.asked(ScriptedModel(failing=1.0), ["a"])
    assert failing[0][0] == "" and failing[0][1].error
    assert FIELD.asked(model, []) == []


def test_a_schema_goes_only_to_models_that_keep_to_one():
    seen = []

    class Watched(ScriptedModel):
        def complete(self, prompts, *, schema=None, **settings):
            seen.append(schema)
            return super().complete(prompts, **settings)

    class Free(Watched):
        def capabilities(self):
            return TorchModel().capabilities()

    FIELD.asked(Watched(), ["a"])
    FIELD.asked(Free(), ["a"])
    assert seen[0]["title"] == "profile" and seen[1] is None
    assert '"profile"' in FIELD.question
