"""LoRA: answers are taught exactly, the model itself stays as it is, and an adapter belongs to its
base. A tiny random Llama; the real model in the slow test.
"""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import torch

from tailor.core.run import Run
from tailor.errors import ModelError
from tailor.llm.adapters import RECORD, SETTINGS, WEIGHTS
from tailor.llm.lora import LoRA
from tailor.llm.torch_model import TorchModel, answer_log_probs

WORDS = [
    "<end>",
    "<unknown>",
    "what",
    "is",
    "a",
    "tent",
    "kettle",
    "boot",
    "hose",
    "kitchen",
    "garden",
    "snow",
    "shelf",
    "one",
    "two",
    "three",
    "four",
]
PLACES = {"kettle": "kitchen", "hose": "garden", "boot": "snow", "tent": "shelf"}
PROMPTS, ANSWERS = [f"what is a {one}" for one in PLACES], list(PLACES.values())
ONE = Run(workers=1, dtype="float32")


def tiny_llama(folder, seed=0, width=16):
    """A random Llama of two blocks over a dozen words, as transformers keeps them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unknown>")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<end>", unk_token="<unknown>"
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    shape = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        eos_token_id=0,
        bos_token_id=0,
        initializer_range=0.3,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    return TorchModel(str(folder), context=32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("llama") / "base")


@pytest.fixture(scope="module")
def taught(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "places"
    report = LoRA(rank=4, lr=0.02, epochs=120).teach(model, PROMPTS, ANSWERS, folder, ONE)
    return folder, report


def with_adapter(model, folder):
    return TorchModel(model.model, context=model.context, adapter=str(folder))


def test_answers_are_learned_and_the_model_itself_stays(model, taught):
    folder, report = taught
    before = model.score(PROMPTS, ANSWERS)
    after = with_adapter(model, folder).score(PROMPTS, ANSWERS)
    assert np.all(after > np.log(0.7)) and np.all(before < np.log(0.5))
    # the end was taught too
    assert [
        one.text for one in with_adapter(model, folder).complete(PROMPTS, max_tokens=4)
    ] == ANSWERS
    np.testing.assert_array_equal(model.score(PROMPTS, ANSWERS), before)
    assert report["loss"][-1] < 0.2 and report["loss"][0] > 2


def test_only_the_last_blocks_learn_where_blocks_says_so(model, tmp_path):
    from safetensors.torch import load_file

    LoRA(rank=2, epochs=1, blocks=1).teach(model, PROMPTS, ANSWERS, tmp_path / "last", ONE)
    names = load_file(tmp_path / "last" / WEIGHTS)
    assert len(names) == 8 and all(".layers.1." in name for name in names)
    with pytest.raises(ModelError, match="blocks is 0"):
        LoRA(blocks=0)


def test_losses_of_ones_own_are_taught_stage_by_stage(model, tmp_path):
    steps = []

    def loss(network, tokens):
        steps.append(tokens)
        ids = torch.tensor([tokens])
        return -network(ids).logits[0, -1].log_softmax(-1)[WORDS.index("boot")]

    stages = {"first": ([[2], [3]], loss), "second": ([[4]], loss)}
    report = LoRA(rank=4, lr=0.02, epochs=20).teach_by(model, stages, tmp_path / "own", ONE)
    assert list(report) == ["adapter", "first", "second"]
    assert sorted(map(tuple, steps[:40])) == [(2,)] * 20 + [(3,)] * 20 and steps[40:] == [[4]] * 20
    assert report["second"]["loss"][-1] < report["first"]["loss"][0]
    with pytest.raises(ModelError, match="there already"):
        LoRA().teach_by(model, stages, tmp_path / "own", ONE)


def test_labels_of_one_token_are_read_off_one_pass_and_equal_their_scores(model):
    choices = model.choices(PROMPTS, ["kitchen", "snow"])
    pairs = [(prompt, label) for prompt in PROMPTS for label in ("kitchen", "snow")]
    scores = model.score([prompt for prompt, _ in pairs], [label for _, label in pairs])
    np.testing.assert_allclose(choices, scores.reshape(-1, 2), atol=1e-5)
    # with a label of two tokens all are scored one by one
    longer = model.choices(PROMPTS, ["kitchen", "snow boot"])
    np.testing.assert_allclose(longer[:, 0], choices[:, 0], atol=1e-5)
    with pytest.raises(ModelError, match="context is 32"):
        model.choices(["what " * 40], ["kitchen"])


def test_what_prompts_begin_with_is_read_once_and_nothing_changes(model, monkeypatch):
    beginning = "what is a tent one two three four what is a boot one two three four "
    prompts = [beginning + word for word in ("kettle", "hose kettle", "boot", "a tent is a boot")]
    prompts += ["one two", beginning + "snow shelf"]
    alone = np.concatenate([model.choices([prompt], ["kitchen", "snow"]) for prompt in prompts])
    answers = ["kitchen shelf", "snow", "one two three", "garden", "snow snow", "tent"]
    scores = np.array([model.score([p], [a])[0] for p, a in zip(prompts, answers, strict=True)])
    network = model._parts()[1]
    read = []
    forward = network.forward
    monkeypatch.setattr(
        network, "forward", lambda ids, **more: (read.append(ids.numel()), forward(ids, **more))[1]
    )
    np.testing.assert_allclose(model.choices(prompts, ["kitchen", "snow"]), alone, atol=1e-5)
    assert sum(read) < 0.6 * sum(len(model.prompt_ids(prompt)) for prompt in prompts)
    np.testing.assert_allclose(model.score(prompts, answers), scores, atol=1e-5)


def test_the_loss_is_what_the_model_gives_the_answers_tokens():
    class Fixed:  # gives every token after t the log-probabilities of row t, whatever came before
        device, table = (
            torch.device("cpu"),
            torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]),
        )

        def __call__(self, ids, attention_mask, logits_to_keep):
            return type("Out", (), {"logits": self.table[ids][:, logits_to_keep].log()})

    found = answer_log_probs(Fixed(), [([0, 1], [2, 0]), ([2], [1])], filler=0)
    np.testing.assert_allclose(found.numpy(), [np.log(0.7 * 0.3), np.log(0.3)], rtol=1e-6)


def test_the_first_loss_is_minus_the_mean_log_probability(model, tmp_path):
    """A step this small changes nothing, so that the report's loss can be worked out from `score`,
    with the mark of the end as a further answer token.
    """
    report = LoRA(lr=1e-12, epochs=1, batch_size=4).teach(
        model, PROMPTS, ["kitchen shelf", "garden", "snow", "one two three"], tmp_path / "a", ONE
    )
    pairs = [
        (asked, [*said, 0])
        for asked, said in model.pairs(
            PROMPTS, ["kitchen shelf", "garden", "snow", "one two three"]
        )
    ]
    by_hand = 0.0
    for asked, said in pairs:
        logits = model.fresh()[1](torch.tensor([asked + said])).logits.log_softmax(-1)[0]
        by_hand -= sum(
            float(logits[len(asked) - 1 + at, token].detach()) for at, token in enumerate(said)
        )
    assert report["loss"] == [
        pytest.approx(by_hand / sum(len(said) for _, said in pairs), abs=2e-5)
    ]


def test_same_seed_same_adapter_and_another_seed_another(model, tmp_path):
    few = LoRA(rank=4, lr=0.02, epochs=3, batch_size=2, dropout=0.1)
    seeds = {"one": 0, "again": 0, "other": 1}
    made = {
        name: few.teach(
            model, PROMPTS, ANSWERS, tmp_path / name, Run(seed=seed, workers=1, dtype="float32")
        )["adapter"]
        for name, seed in seeds.items()
    }
    assert made["one"] == made["again"] != made["other"]


def test_the_fingerprint_follows_the_content(model, taught, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(taught[0], copy)
    prints = [
        one.fingerprint
        for one in (model, with_adapter(model, taught[0]), with_adapter(model, copy))
    ]
    assert prints[0] != prints[1] == prints[2]
    LoRA(rank=4, epochs=1).teach(model, PROMPTS, ANSWERS, copy, ONE, overwrite=True)
    assert with_adapter(model, copy).fingerprint != prints[2]
    scores = with_adapter(model, copy).score(PROMPTS, ANSWERS)
    # what was loaded before is not served for it
    assert not np.allclose(scores, with_adapter(model, taught[0]).score(PROMPTS, ANSWERS))


def test_an_adapter_of_other_weights_is_refused(taught, tmp_path):
    with pytest.raises(ModelError, match="was taught to weights"):
        with_adapter(tiny_llama(tmp_path / "other", seed=1), taught[0]).score(["what"], ["one"])
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(taught[0], elsewhere)
    (elsewhere / RECORD).unlink()  # one that does not say: its shapes must fit
    assert with_adapter(tiny_llama(tmp_path / "like", seed=1), elsewhere).score(
        ["what"], ["one"]
    ).shape == (1,)
    with pytest.raises(ModelError, match="cannot be put onto"):
        with_adapter(tiny_llama(tmp_path / "wide", width=32), elsewhere).score(["what"], ["one"])


def test_folders_that_are_no_adapter_are_refused(model, taught, tmp_path):
    with pytest.raises(ModelError, match=r"adapter_config\.json is not there"):
        _ = with_adapter(model, tmp_path).fingerprint
    pickled = tmp_path / "pickled"
    shutil.copytree(taught[0], pickled)
    (pickled / WEIGHTS).rename(pickled / "adapter_model.bin")
    with pytest.raises(ModelError, match="safetensors is not there"):
        with_adapter(model, pickled).score(["what"], ["one"])
    damaged = tmp_path / "damaged"
    shutil.copytree(taught[0], damaged)
    (damaged / WEIGHTS).write_bytes((damaged / WEIGHTS).read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be put onto"):
        with_adapter(model, damaged).score(["what"], ["one"])
    (damaged / RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="is damaged"):
        with_adapter(model, damaged).score(["what"], ["one"])


def test_what_it_was_taught_and_how_stands_beside_it(model, taught):
    record = json.loads((taught[0] / RECORD).read_text(encoding="utf-8"))
    assert (
        record["base"] == model.base_digest()
        and record["pairs"] == 4
        and record["rank"] == 4
        and record["epochs"] == 120
    )
    assert (
        str(model.model)
        == json.loads((taught[0] / SETTINGS).read_text(encoding="utf-8"))["base_model_name_or_path"]
    )
    assert not any(word in json.dumps(record) for word in PLACES)  # no pair is kept


@pytest.mark.parametrize(
    ("prompts", "answers", "says"),
    [
        ([], [], "0 prompts"),
        (["a"], ["one", "two"], "1 prompts and 2 answers"),
        (["a"], [""], "0 tokens"),
        (["what"], ["one " * 40], "40 tokens"),
        (["what " * 20], ["one " * 12], "at most 31 together"),
    ],
)
def test_bad_pairs(model, prompts, answers, says, tmp_path):
    with pytest.raises(ModelError, match=says):
        LoRA(epochs=1).teach(model, prompts, answers, tmp_path / "a", ONE)
    assert not (tmp_path / "a").exists()


def test_bad_settings(model, taught, tmp_path):
    for settings, says in (
        ({"rank": 0}, "rank is 0"),
        ({"lr": 0.0}, "lr 0.0"),
        ({"targets": ()}, "at least one name"),
        ({"dropout": 1.0}, "dropout 1.0"),
    ):
        with pytest.raises(ModelError, match=says):
            LoRA(**settings)
    with pytest.raises(ModelError, match=r"nowhere.*q_proj"):
        LoRA(targets=("q_proj", "nowhere")).teach(model, PROMPTS, ANSWERS, tmp_path / "a", ONE)
    with pytest.raises(ModelError, match="is there already"):
        LoRA().teach(model, PROMPTS, ANSWERS, taught[0], ONE)
    with pytest.raises(ModelError, match="has the adapter"):
        LoRA().teach(with_adapter(model, taught[0]), PROMPTS, ANSWERS, tmp_path / "a", ONE)


def test_a_deadline_keeps_what_was_learned_and_a_failure_leaves_nothing(model, tmp_path):
    report = LoRA(epochs=1000).teach(
        model, PROMPTS, ANSWERS, tmp_path / "short", Run(workers=1, dtype="float32", deadline_s=0.0)
    )
    assert report["stopped"] == "deadline" and with_adapter(model, tmp_path / "short").score(
        ["what"], ["one"]
    ).shape == (1,)
    steps = []
    LoRA(epochs=3, batch_size=2).teach(
        model,
        PROMPTS,
        ANSWERS,
        tmp_path / "seen",
        Run(
            workers=1,
            dtype="float32",
            progress=lambda some, what, total: steps.append(total) or some,
        ),
    )
    assert steps == [6]
    with pytest.raises(ModelError, match="lower lr"):
        LoRA(lr=1e30, epochs=20).teach(model, PROMPTS, ANSWERS, tmp_path / "gone", ONE)
    assert not list(tmp_path.glob("*gone*")) and not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_real_model_learns_a_format_from_a_few_dozen_pairs(pulled, tmp_path):
    pulled("smollm2-135m")
    model = TorchModel(system="", context=128)
    colours, things = (
        ("red", "blue", "green", "black", "white", "grey"),
        (
            "tent",
            "kettle",
            "boot",
            "lamp",
            "scarf",
            "drum",
        ),
    )
    every = [
        (f"Tag: a {colour} {thing}", f"[[{thing}|{colour}]]")
        for colour in colours
        for thing in things
    ]
    held, known = every[::6], [one for at, one in enumerate(every) if at % 6]
    learn = LoRA(epochs=2, batch_size=6, lr=2e-3)
    report = learn.teach(model, *zip(*known[:24], strict=True), tmp_path / "tags", Run(workers=1))
    before, base = model.score(*zip(*held, strict=True)), TorchModel(system="", context=128)
    taught = TorchModel(system="", context=128, adapter=str(tmp_path / "tags"))
    after = taught.score(*zip(*held, strict=True))
    assert np.all(after > before + 5) and report["loss"][-1] < report["loss"][0] / 2
    written = [
        one.text.strip() for one in taught.complete([prompt for prompt, _ in held], max_tokens=12)
    ]
    assert sum(one == answer for one, (_, answer) in zip(written, held, strict=True)) >= 4
    # without the adapter nothing changed
    np.testing.assert_array_equal(base.score(*zip(*held, strict=True)), before)
    short = LoRA(epochs=1, batch_size=6)
    twice = [
        short.teach(model, *zip(*known[:6], strict=True), tmp_path / name, Run(workers=1, seed=3))[
            "adapter"
        ]
        for name in "ab"
    ]
    assert twice[0] == twice[1]
