"""Teaching a model in memory: three modes lower the loss, each by the weights it names."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import torch

from tailor.core.run import Run
from tailor.errors import ModelError
from tailor.llm.torch_model import TorchModel
from tailor.llm.tuning import PromptVectors, TunedModel, Tuning, answer_losses
from tailor.llm.word_model import word_model

PLACES = {"kettle": "kitchen", "hose": "garden", "boot": "snow", "tent": "shelf"}
PROMPTS = [f"what is a {word}" for word in PLACES]
ANSWERS = list(PLACES.values())
ONE = Run(workers=1, dtype="float32")
MODES = ("full", "lora", "prompt vectors")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words") / "base"
    return word_model([*PROMPTS, *ANSWERS], folder, width=16, heads=2, context=48)


@pytest.fixture(scope="module")
def fluent(model):
    """The word model, taught the words of answers, each after a wrong prompt."""
    return Tuning("full", epochs=30, batch_size=2, lr=0.01).teach(
        model, PROMPTS, ANSWERS[1:] + ANSWERS[:1], ONE
    )


@pytest.fixture(scope="module", params=MODES)
def taught(request, fluent):
    tuning = Tuning(request.param, epochs=40, batch_size=2, lr=0.05)
    return tuning.teach(fluent, PROMPTS, ANSWERS, ONE)


def test_a_word_model_has_the_words_of_its_texts_and_one_token_for_others(model):
    assert model.tokens("a kettle, a hose") == 5
    assert model.prompt_ids("zebra") == model.prompt_ids("yak")
    assert len(set(map(tuple, map(model.prompt_ids, ANSWERS)))) == 4
    with pytest.raises(ModelError, match="no word"):
        word_model([" "], "nowhere")


def test_every_mode_lowers_the_loss_and_leaves_the_model_as_it_was(fluent, taught):
    before = answer_losses(fluent, PROMPTS, ANSWERS)
    assert answer_losses(taught, PROMPTS, ANSWERS).mean() < before.mean() - 0.3
    assert np.array_equal(answer_losses(fluent, PROMPTS, ANSWERS), before)


def test_only_the_weights_of_the_mode_learn(model):
    learned = {
        mode: Tuning(mode, epochs=1, vectors=3, rank=2).teach(model, PROMPTS, ANSWERS, ONE).learned
        for mode in MODES
    }
    total = sum(weight.numel() for weight in model.fresh()[1].parameters())
    assert learned["full"] == total
    assert learned["prompt vectors"] == 3 * 16
    assert learned["lora"] == 2 * 4 * 2 * (16 + 16)  # blocks, matrices, rank, both sides


def test_prompt_vectors_stand_before_the_text(model):
    network = model.fresh()[1]
    vectors = PromptVectors(network, 3, ONE)
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    embedded = network.get_input_embeddings()(ids)
    first = vectors.vectors.expand(2, -1, -1)
    by_hand = network(
        inputs_embeds=torch.cat([first, embedded], 1),
        attention_mask=torch.cat([torch.ones(2, 3, dtype=torch.long), mask], 1),
    ).logits[:, 3:]
    kept = vectors(ids, attention_mask=mask, logits_to_keep=torch.tensor([0, 1])).logits
    assert torch.allclose(kept, by_hand[:, :2], atol=1e-5)


def test_a_common_beginning_read_once_gives_the_same_answers(taught):
    beginning = "what is a kettle what is a hose what is a boot what is a tent "
    prompts = [beginning + prompt for prompt in PROMPTS]
    together = taught.choices(prompts, ANSWERS)
    alone = np.concatenate([taught.choices([prompt], ANSWERS) for prompt in prompts])
    assert together == pytest.approx(alone, abs=1e-4)
    assert taught.score(prompts, ANSWERS) == pytest.approx(np.diag(alone), abs=1e-4)


def test_teaching_is_repeatable_and_another_seed_has_another_fingerprint(model):
    tuning = Tuning("prompt vectors", epochs=2)
    first, again = (tuning.teach(model, PROMPTS, ANSWERS, ONE) for _ in range(2))
    other = tuning.teach(model, PROMPTS, ANSWERS, Run(seed=1, workers=1, dtype="float32"))
    assert np.array_equal(first.choices(PROMPTS, ANSWERS), again.choices(PROMPTS, ANSWERS))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_what_was_taught_can_be_taught_further(model):
    once = Tuning("full", epochs=1).teach(model, PROMPTS, ANSWERS, ONE)
    twice = Tuning("full", epochs=20, batch_size=2).teach(once, PROMPTS, ANSWERS, ONE)
    losses = [answer_losses(part, PROMPTS, ANSWERS).mean() for part in (model, once, twice)]
    assert losses[2] < losses[1] < losses[0]


def test_what_cannot_be_is_refused(model):
    with pytest.raises(ModelError, match="one of full"):
        Tuning("half")
    with pytest.raises(ModelError, match="0 prompts"):
        Tuning().teach(model, [], [])
    with pytest.raises(ModelError, match="at least 1"):
        Tuning(epochs=0)
    with pytest.raises(ModelError, match=r"Tuning\.teach"):
        TunedModel("somewhere").choices(["a"], ["b"])
    vectors = Tuning("prompt vectors", epochs=1).teach(model, PROMPTS, ANSWERS, ONE)
    with pytest.raises(ModelError, match="closed answers"):
        vectors.complete(PROMPTS)
    with pytest.raises(ModelError, match="once"):
        Tuning("full").teach(vectors, PROMPTS, ANSWERS)
    assert isinstance(model, TorchModel)
