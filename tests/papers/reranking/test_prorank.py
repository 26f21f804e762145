"""ProRank: rewards bring a model onto two answers, then their difference learns to rank."""

import numpy as np
import pytest
from reranking.planted_vectors import judged_data, planted_lists, quality

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import torch

from tailor.core.run import Run
from tailor.core.saving import load
from tailor.errors import ModelError
from tailor.llm.fencing import fenced
from tailor.llm.scripted import ScriptedModel
from tailor.llm.torch_model import TorchModel
from tailor.papers.reranking.prorank import LABELS, NEGATIVES, ClosedAnswers, ProRank

RUN = Run(workers=1, dtype="float32")
WORDS = [
    "<end>",
    "<unknown>",
    "yes",
    "no",
    "good",
    "bad",
    "rope",
    "tent",
    "pole",
    "knot",
    "boot",
    "hose",
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A random Llama of two blocks over a dozen words, which answers with any of them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llama")
    numbers = {word: number for number, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(numbers, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<end>", unk_token="<unknown>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        eos_token_id=0,
        bos_token_id=0,
        initializer_range=0.3,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    return TorchModel(str(folder), context=256)


def lists_of(seed, requests=24):
    """Lists whose relevant documents say "bad": the random model prefers the others."""
    rng = np.random.default_rng(seed)
    lists = []
    for _ in range(requests):
        things = rng.choice(WORDS[6:], 8)
        gains = rng.permutation([1.0, 1.0, *[0.0] * 6])
        texts = [
            f"{thing} {'bad bad bad' if gain else 'good good good'}"
            for thing, gain in zip(things, gains, strict=True)
        ]
        lists.append(list(zip(texts, gains.tolist(), strict=True)))
    return judged_data([f"rope {number}" for number in range(requests)], lists)


def validity(method, data):
    """Return the mean probability of the two answers."""
    shortlist = planted_lists(data)[0].shortlist
    texts = [fenced(text) for text in shortlist.texts]
    prompts = [method.prompt(shortlist, (doc,), texts).text for doc in range(len(shortlist))]
    return float(np.exp(method._model().choices(prompts, LABELS)).sum(axis=1).mean())


@pytest.fixture(scope="module")
def forms(llama, tmp_path_factory):
    """The model as it is, taught in full, and taught the score alone."""
    folder = tmp_path_factory.mktemp("adapters")
    settings = {"llm": llama, "lr": 0.02, "pairs": 240, "groups": 16, "blocks": 2}
    data = lists_of(0)
    return {
        "as it is": ProRank(llm=llama).fit(data, RUN),
        "taught": ProRank(**settings, adapter=str(folder / "taught")).fit(data, RUN),
        "score alone": ProRank(**settings, warm_up=False, adapter=str(folder / "alone")).fit(
            data, RUN
        ),
    }


def test_the_warm_up_brings_the_probability_onto_the_two_answers(forms):
    shares = {name: validity(method, lists_of(1)) for name, method in forms.items()}
    assert shares["as it is"] < 0.1 and shares["taught"] > 0.6
    assert shares["score alone"] < shares["taught"] - 0.3


def test_the_difference_of_the_logits_learns_to_rank_other_lists(forms):
    data = lists_of(1, requests=6)
    assert quality(forms["taught"], data) > quality(forms["as it is"], data) + 0.2
    assert list(forms["taught"].fit_report_) == ["adapter", "warm-up", "score"]
    assert "nothing" in forms["as it is"].fit_report_["learned"]


def test_a_saved_one_answers_the_same(forms, tmp_path):
    method = forms["taught"]
    method.save(tmp_path / "saved")
    again = load(tmp_path / "saved")
    shortlist = planted_lists(lists_of(1))[0].shortlist
    assert again.rerank([shortlist])[0].scores == pytest.approx(
        method.rerank([shortlist])[0].scores
    )


class Fixed:
    """Gives every prompt that begins with token t the probabilities of row t."""

    device = torch.device("cpu")

    def __init__(self, table):
        self.table = torch.tensor(table)

    def __call__(self, ids, attention_mask, logits_to_keep):
        rows = self.table[ids[:, :1]].log()
        return type("Output", (), {"logits": rows.expand(-1, len(logits_to_keep), -1)})


def test_losses_by_hand():
    # tokens 0 and 1 are the answers; 2 and 3 are anything else
    network = Fixed([[0.2, 0.1, 0.3, 0.4], [0.1, 0.6, 0.2, 0.1], [0.5, 0.25, 0.25, 0.0]])
    judge = ClosedAnswers((0, 1), filler=3)
    logits = judge.logits(network, [[0, 2], [1]])
    assert logits.exp().numpy() == pytest.approx(np.array([[0.2, 0.1, 0.7], [0.1, 0.6, 0.3]]))
    loss = judge.warm_up_loss(network, [([0], True), ([1], False)])
    assert float(loss) == pytest.approx(-(1.2 * 0.2 + 0.2 * 0.1 + 1.2 * 0.6 + 0.2 * 0.1) / 2)
    scores = np.log([0.2 / 0.1, 0.1 / 0.6, 0.5 / 0.25])
    expected = -scores[0] / 0.5 + np.log(np.exp(scores / 0.5).sum())
    pairs = [np.log1p(np.exp(-(scores[0] - other))) for other in scores[1:]]
    found = judge.score_loss(network, ([[0], [1], [2]], [1.0, 0.0, 0.0]), tau=0.5)
    assert float(found) == pytest.approx(expected + np.mean(pairs), rel=1e-5)


def test_negatives_are_those_that_the_first_stage_puts_highest(llama):
    documents = [(f"{word} {place}", float(place == 5)) for place, word in enumerate(WORDS)]
    example = planted_lists(judged_data(["rope"], [documents]))[0]
    method = ProRank(llm=llama)
    tokens, gains = method._groups(llama, [example], np.random.default_rng(0))[0]
    assert gains == [1.0] + [0.0] * NEGATIVES
    expected = [method._tokens(llama, example, doc) for doc in (5, 0, 1, 2, 3, 4, 6, 7)]
    assert tokens == expected


def test_a_long_document_never_costs_the_question(llama):
    example = planted_lists(judged_data(["rope"], [[("bad " * 900, 0.0), ("good", 1.0)]]))[0]
    method = ProRank(llm=llama, budget=200)
    prompt = method.prompt(example.shortlist, (0,), [fenced("bad " * 900)] * 2)
    assert prompt.text.endswith("Answer yes or no.") and prompt.tokens <= 200


def test_only_a_torch_model_can_be_taught_and_settings_are_checked(tmp_path):
    method = ProRank(llm=ScriptedModel(), adapter=str(tmp_path / "a"))
    with pytest.raises(ModelError, match="TorchModel"):
        method.fit(lists_of(0, requests=3), RUN)
    nothing = {"warm_up": False, "groups": 0}
    for wrong in (nothing, {"strategy": "windows"}, {"pairs": 0}, {"tau": 0.0}, {"blocks": 0}):
        with pytest.raises(ModelError):
            ProRank(**wrong)
