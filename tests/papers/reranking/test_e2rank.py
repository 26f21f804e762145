"""E2Rank: the list refines the request, in one sum of vectors; a correction can be learned."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from reranking.planted_vectors import NumbersEncoder, judged_data, planted_lists, quality, text_of

pytest.importorskip("torch")

from tailor.core.run import Run
from tailor.errors import ModelError, NotFittedError
from tailor.papers.reranking.e2rank import E2Rank
from tailor.reranking.shortlist import Shortlist

RUN = Run(workers=1, dtype="float32")
TWO = NumbersEncoder(2)


def order_of(texts, request="1 0", encoder=TWO, **settings):
    return E2Rank(encoder=encoder, **settings).rerank([Shortlist.of_texts(request, texts)])[0]


def test_what_the_first_documents_share_moves_their_like_up():
    # the request is at 0 degrees; the first document at 40 speaks for the one at 70
    angles = np.radians([40, -50, 70])
    texts = [f"{np.cos(angle)} {np.sin(angle)}" for angle in angles]
    plain = order_of(texts, feedback_weight=0.0)
    fed = order_of(texts, order="first stage", feedback=1, feedback_weight=2.0)
    assert plain.order.tolist() == [0, 1, 2] and fed.order.tolist() == [0, 2, 1]
    query = np.array([1.0, 0.0]) + 2.0 * np.array([np.cos(angles[0]), np.sin(angles[0])])
    cosines = [query @ [np.cos(angle), np.sin(angle)] / np.linalg.norm(query) for angle in angles]
    assert fed.scores == pytest.approx(cosines, abs=1e-6) and fed.score_kind == "cosine"


def test_the_other_documents_push_the_query_away():
    texts = ["1 0", "0.6 0.8", "0.6 -0.8", "0 1"]
    settings = {"order": "first stage", "feedback": 1}
    even = order_of(texts, **settings)
    away = order_of(texts, **settings, others_weight=1.0)
    assert even.scores[1] == pytest.approx(even.scores[2])
    assert away.scores[2] > away.scores[1]  # the others lean to one side


def test_the_order_fed_back_is_chosen_and_weighed():
    texts = ["0 1", "0.8 0.6", "1 0"]
    by_list = order_of(texts, order="first stage", feedback=1)
    by_cosine = order_of(texts, order="cosine", feedback=1)
    assert by_list.details == {0: {"feedback": 1.0}} and by_cosine.details == {2: {"feedback": 1.0}}
    shares = order_of(texts, order="first stage", feedback=2, temperature=0.5).details
    # priors 0, -1, -2 are 1.2247 deviations apart
    first = 1 / (1 + np.exp(-1.2247 / 0.5))
    assert shares[0]["feedback"] == pytest.approx(first, abs=1e-4)
    assert sum(share["feedback"] for share in shares.values()) == pytest.approx(1, abs=1e-3)


@dataclass(frozen=True)
class Counting(NumbersEncoder):
    """Count the texts encoded."""

    counts: list = field(default_factory=list, hash=False)

    def encode(self, texts):
        self.counts.append(len(texts))
        return super().encode(texts)


def test_feedback_costs_no_further_encoding(tmp_path, monkeypatch):
    monkeypatch.setenv("TAILOR_CACHE", str(tmp_path))
    texts = ["1 0", "0.8 0.6", "0 1", "1 0"]
    counts = {}
    for weight in (0.0, 0.4):
        encoder = Counting(2)
        monkeypatch.setenv("TAILOR_CACHE", str(tmp_path / str(weight)))
        order_of(texts, encoder=encoder, feedback_weight=weight)
        counts[weight] = sum(encoder.counts)
    assert counts[0.4] == counts[0.0] == 4  # three different documents and the request


def test_blank_documents_keep_their_places_and_a_blank_request_is_read_off_the_list():
    result = order_of(["0 1", "", "1 0"], feedback=1)
    assert result.order.tolist() == [2, 1, 0]
    assert result.statuses == ("ranked", "fallback", "ranked")
    alone = order_of(["0 1", "1 0"], request="", order="first stage", feedback=1)
    assert alone.scores[0] > alone.scores[1]
    nothing = order_of(["0 1", "1 0"], request="", feedback_weight=0.0)
    assert nothing.order.tolist() == [0, 1] and set(nothing.statuses) == {"fallback"}
    assert order_of([]).order.tolist() == []


def topics(seed, requests=40, dims=16):
    """Lists whose relevant documents share a topic that the request only hints at."""
    rng = np.random.default_rng(seed)
    texts, lists = [], []
    for _ in range(requests):
        topic, other = rng.standard_normal((2, dims))
        texts.append(text_of(0.5 * topic + rng.standard_normal(dims)))
        documents = []
        for place in range(20):
            is_relevant = rng.random() < (0.7 if place < 5 else 0.1)
            centre = topic if is_relevant else other * (rng.random() < 0.5)
            vector = centre + 1.2 * rng.standard_normal(dims)
            documents.append((text_of(vector), float(is_relevant)))
        lists.append(documents)
    return judged_data(texts, lists)


def test_feedback_helps_by_what_the_first_documents_say_and_random_ones_do_harm():
    data = topics(0)
    settings = {"encoder": NumbersEncoder(16), "feedback": 5, "temperature": 5.0}
    plain = quality(E2Rank(**settings, feedback_weight=0.0), data)
    fed = quality(E2Rank(**settings, order="first stage", feedback_weight=1.0), data)
    assert fed > plain + 0.02

    class Shuffled(E2Rank):
        def _order_scores(self, shortlist, vectors):
            return np.random.default_rng(len(shortlist.request)).standard_normal(len(shortlist))

    shuffled = quality(Shuffled(**settings, feedback_weight=1.0), data)
    assert shuffled < plain - 0.01


def turned(seed, requests=40, dims=4):
    """Lists whose relevant documents lie in a direction that no document fed back shows."""
    rng = np.random.default_rng(seed)
    turn = np.roll(np.eye(dims), 1, axis=0)
    texts, lists = [], []
    for _ in range(requests):
        request = rng.standard_normal(dims)
        texts.append(text_of(request))
        vectors = rng.standard_normal((12, dims))
        fits = vectors @ (turn @ request) / np.linalg.norm(vectors, axis=1)
        gains = fits >= np.sort(fits)[-3]
        lists.append(
            [(text_of(vector), float(gain)) for vector, gain in zip(vectors, gains, strict=True)]
        )
    return judged_data(texts, lists)


def test_a_correction_is_learned_where_the_sum_of_vectors_does_not_help():
    encoder = NumbersEncoder(4)
    learned = E2Rank(encoder=encoder, learn=True, epochs=10, lr=0.03, tau=0.1)
    learned.fit(turned(0), RUN)
    assert quality(learned, turned(1)) > quality(E2Rank(encoder=encoder), turned(1)) + 0.1


def test_learning_begins_with_the_sum_of_vectors():
    data = topics(2, requests=6)
    method = E2Rank(encoder=NumbersEncoder(16), learn=True, epochs=1, lr=1e-12, patience=None)
    lists = [example.shortlist for example in planted_lists(data)]
    method.fit(data, RUN)
    plain = E2Rank(encoder=NumbersEncoder(16)).rerank(lists)
    for mine, other in zip(method.rerank(lists), plain, strict=True):
        assert mine.scores == pytest.approx(other.scores, abs=1e-5)


def test_without_judgements_nothing_is_learned_and_the_report_says_so():
    data = judged_data(["1 0"], [[("1 0", 1.0), ("0 1", 1.0)]])
    method = E2Rank(encoder=TWO, learn=True).fit(data, RUN)
    assert "no list" in method.fit_report_["stopped"]
    with pytest.raises(NotFittedError):
        E2Rank(encoder=TWO, learn=True).rerank([Shortlist.of_texts("1 0", ["1 0"])])


@pytest.mark.parametrize(
    "wrong",
    [{"feedback": 0}, {"feedback_weight": -1.0}, {"temperature": 0.0}, {"tau": 0}, {"order": "x"}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ModelError):
        E2Rank(**wrong)


def test_another_encoder_than_the_fitted_one_is_refused():
    method = E2Rank(encoder=TWO).fit(judged_data(["1 0"], [[("1 0", 1.0)]]), RUN)
    method.encoder = NumbersEncoder(3)
    with pytest.raises(ModelError, match="numbers 3"):
        method.rerank([Shortlist.of_texts("1 0 0", ["1 0 0"])])
