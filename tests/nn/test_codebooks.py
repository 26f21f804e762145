"""Kinds of codes: balanced, of an autoencoder, of parallel books; what each alone promises."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tailor.errors import ModelError
from tailor.nn import code_autoencoder
from tailor.nn.code_autoencoder import ResidualAutoencoder, _Autoencoder, check_usage
from tailor.nn.codebooks import CodeKind, arrays_of, codebooks_of, quantizer_of
from tailor.nn.parallel_codes import (
    AdditiveKMeans,
    ParallelCodebooks,
    ProductKMeans,
    _deal_directions,
)
from tailor.nn.quantizers import (
    Codebooks,
    ResidualKMeans,
    balanced_prices,
    code_report,
    nearest_word,
    with_last_digit,
    with_next_digit,
)

KINDS: tuple[CodeKind, ...] = ("residual", "balanced", "autoencoder", "product", "additive")
SHORT = {"autoencoder": 12}  # epochs
SIZES = (6, 5, 6, 4)  # values of the planted facets


def uneven(n=500, dims=12, seed=0):
    """Vectors of which half lie in one place, with noise."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(10, dims))
    group = np.where(rng.random(n) < 0.5, 0, rng.integers(10, size=n))
    return (centres[group] + 0.3 * rng.normal(size=(n, dims))).astype(np.float32)


def quantizer(kind, levels, words):
    """Return the quantizer of a kind, trained for a short time."""
    made = quantizer_of(kind, levels, words)
    return replace(made, epochs=SHORT[kind]) if kind in SHORT else made


def facet_vectors(seed=0, noise=0.05):
    """A vector for each combination of facet values, the sum of a vector per value; and values."""
    rng = np.random.default_rng(seed)
    values = np.stack(np.meshgrid(*map(np.arange, SIZES)), axis=-1).reshape(-1, len(SIZES))
    vectors = sum(rng.normal(size=(size, 32))[values[:, i]] for i, size in enumerate(SIZES))
    return (vectors + noise * rng.normal(size=vectors.shape)).astype(np.float32), values


def shared_part(left, right):
    """Return the normalised mutual information of two partitions, by its definition."""
    table = np.zeros((left.max() + 1, right.max() + 1))
    np.add.at(table, (left, right), 1 / len(left))
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    filled = table > 0
    expected = np.outer(rows, columns)[filled]
    shared = (table[filled] * np.log(table[filled] / expected)).sum()
    own = [-(part[part > 0] * np.log(part[part > 0])).sum() for part in (rows, columns)]
    return shared / np.sqrt(own[0] * own[1])


# every kind


@pytest.mark.parametrize("kind", KINDS)
def test_codes_depend_on_the_row_and_the_seed_alone(kind):
    vectors = uneven(200)
    first, second = (quantizer(kind, 2, 8).fit(vectors, np.random.default_rng(4)) for _ in range(2))
    codes = first.encode(vectors)
    assert codes.shape == (200, 2) and codes.dtype == np.int32
    assert (second.encode(vectors) == codes).all()
    assert (np.concatenate([first.encode(row[None]) for row in vectors]) == codes).all()


@pytest.mark.parametrize("kind", KINDS)
def test_codebooks_are_arrays_and_come_back(kind):
    vectors = uneven(200)
    codebooks = quantizer(kind, 2, 8).fit(vectors, np.random.default_rng(0))
    arrays = arrays_of(codebooks)
    assert all(isinstance(values, np.ndarray) for values in arrays.values())
    loaded = codebooks_of(kind, arrays)
    assert (loaded.encode(vectors) == codebooks.encode(vectors)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_decoded_vectors_are_nearer_than_their_mean(kind):
    vectors = uneven()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codebooks = quantizer(kind, 2, 16).fit(vectors, np.random.default_rng(0))
    error = ((codebooks.decode(codebooks.encode(vectors)) - vectors) ** 2).sum()
    assert error < 0.5 * ((vectors - vectors.mean(axis=0)) ** 2).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_vectors_share_a_code_and_get_digits_of_their_own(kind):
    same = np.ones((40, 3), dtype=np.float32)
    for vectors in (same, np.zeros_like(same)):
        codes = quantizer(kind, 2, 256).fit(vectors, np.random.default_rng(0)).encode(vectors)
        assert (codes == codes[0]).all()
        last = with_last_digit(codes, np.random.default_rng(0))
        assert sorted(last[:, -1].tolist()) == list(range(40))


@pytest.mark.parametrize("kind", KINDS)
def test_a_catalogue_smaller_than_the_codebook(kind):
    rng = np.random.default_rng(0)
    for size in (1, 2, 9):
        vectors = rng.normal(size=(size, 4)).astype(np.float32)
        codebooks = quantizer(kind, 3, 256).fit(vectors, rng)
        assert codebooks.encode(vectors).shape == (size, 3)
        assert codebooks.encode(vectors).max() < codebooks.words.shape[1] <= max(2, size)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_title_among_others_has_a_code(kind):
    vectors = uneven(120)
    vectors[7] = 0  # what an encoder makes of no words
    codebooks = quantizer(kind, 2, 8).fit(vectors, np.random.default_rng(0))
    assert codebooks.encode(vectors)[7].min() >= 0
    assert np.isfinite(codebooks.decode(codebooks.encode(vectors))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_that_are_none_are_refused(kind):
    with pytest.raises(ValueError, match="1 values that are no number"):
        quantizer(kind, 2, 8).fit(np.array([[np.inf, 0.0]]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="0 vectors"):
        quantizer(kind, 2, 8).fit(np.empty((0, 4)), np.random.default_rng(0))


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="codes is 'letters': it must be one of residual"):
        quantizer_of("letters", 2, 8)
    with pytest.raises(ValueError, match="codes is 'letters'"):
        codebooks_of("letters", {})


def test_more_collisions_than_the_last_digit_holds_are_told_by_that_digit():
    existing = np.array([[0, 0], [0, 1], [1, 0]])
    new = with_next_digit(np.array([[0], [0], [1]]), existing)
    assert new[:, -1].tolist() == [2, 3, 1]  # digits that a net of two never generates


# balanced


@pytest.mark.parametrize("n", [300, 320, 509])
def test_no_word_takes_more_than_its_share(n):
    vectors = uneven(n)
    free = ResidualKMeans(2, 16).fit(vectors, np.random.default_rng(0)).encode(vectors)
    assert np.bincount(free[:, 0]).max() > 1.3 * np.ceil(n / 16)
    codebooks = ResidualKMeans(2, 16, balanced=True).fit(vectors, np.random.default_rng(0))
    codes = codebooks.encode(vectors)
    for level in range(2):
        assert np.bincount(codes[:, level]).max() <= np.ceil(n / 16)


def test_prices_by_hand():
    # two words; three vectors are nearer to the first, and the last of them loses least
    costs = np.array([[0.0, 5.0], [0.0, 4.0], [0.0, 1.0], [3.0, 0.0]])
    prices = balanced_prices(costs)
    assert 1.0 < prices[0] < 4.0 and prices[1] == 0
    assert (costs + prices).argmin(axis=1).tolist() == [0, 0, 1, 1]
    assert balanced_prices(costs[:, ::-1]).tolist() == [prices[1], prices[0]]


def test_balanced_groups_are_as_near_as_the_best_assignment():
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(3)
    costs = rng.random((60, 5))
    chosen = (costs + balanced_prices(costs)).argmin(axis=1)
    assert np.bincount(chosen).tolist() == [12] * 5
    rows, columns = linear_sum_assignment(np.repeat(costs, 12, axis=1))
    best = costs[rows, columns // 12].sum()
    assert best <= costs[np.arange(60), chosen].sum() <= 1.01 * best


def test_a_price_moves_the_border():
    words = np.array([[0.0], [2.0]], dtype=np.float32)
    points = np.array([[0.9], [1.1]], dtype=np.float32)
    assert nearest_word(points, words).tolist() == [0, 1]
    assert nearest_word(points, words, np.array([1.0, 0.0], dtype=np.float32)).tolist() == [1, 1]
    books = Codebooks(words[None], np.zeros((1, 2)), np.array([[-9.0, 0.0]], dtype=np.float32))
    assert books.encode(np.array([[2.0]])).tolist() == [[0]]  # 1 after scaling, at equal distance


# autoencoder


def test_words_that_nobody_uses_revive():
    vectors = uneven(600)

    def used(**settings):
        quantizer = ResidualAutoencoder(2, 16, epochs=6, hidden=16, inner=8, **settings)
        codes = quantizer.fit(vectors, np.random.default_rng(0)).encode(vectors)
        return code_report(codes, [16, 16])["words_used"]

    def one_start(self, vectors, rng):
        with torch.no_grad():
            self.words.fill_(50.0)  # far from every vector, and all the same

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_Autoencoder, "start_words", one_start)
        with pytest.raises(ModelError, match="level 1 of the autoencoder uses 6%"):
            used(revives=False)
        assert min(used()) >= 0.8


def test_usage_is_checked_where_there_are_vectors_enough():
    codes = np.zeros((40, 1), dtype=np.int32)
    check_usage(codes, words=8, distinct=15)
    with pytest.raises(ModelError, match="uses 12% of its 8 words"):
        check_usage(codes, words=8, distinct=16)
    check_usage(np.arange(40)[:, None] % 7, words=8, distinct=40)  # 88 %


def test_training_lowers_the_error_and_passes_gradients_through():
    vectors = uneven(400)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def error(epochs):
        books = ResidualAutoencoder(2, 16, epochs=epochs).fit(vectors, np.random.default_rng(0))
        return ((books.decode(books.encode(vectors)) - vectors) ** 2).sum()

    assert error(40) < 0.5 * error(1)
    net = _Autoencoder(12, ResidualAutoencoder(1, 4), 4)
    net.start_words(torch.from_numpy(vectors), np.random.default_rng(0))
    restored = net.loss(torch.from_numpy(vectors), commitment=0.0)
    restored.backward()
    assert net.encoder[0].weight.grad.abs().sum() > 0  # only what is restored can reach it


def test_arrays_do_what_the_net_does():
    net = _Autoencoder(6, ResidualAutoencoder(1, 4, inner=3, hidden=5), 4)
    books = net.codebooks()
    vectors = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    hidden = code_autoencoder._two_maps(vectors, books.hidden_of_vector, books.inner_of_hidden)
    expected = net.encoder(torch.from_numpy(vectors)).detach().numpy()
    assert hidden == pytest.approx(expected, abs=1e-6)


# parallel books


def test_additive_books_find_the_planted_facets():
    for seed in range(2):
        vectors, values = facet_vectors(seed)
        books = AdditiveKMeans(4, 6).fit(vectors, np.random.default_rng(seed))
        codes = books.encode(vectors)
        shared = np.array(
            [[shared_part(codes[:, m], values[:, facet]) for facet in range(4)] for m in range(4)]
        )
        assert np.sort(shared.max(axis=1))[-3:].min() >= 0.8
        assert len(set(shared.argmax(axis=1))) == 4  # each book another facet
        error = ((books.decode(codes) - vectors) ** 2).sum()
        assert error < 0.05 * ((vectors - vectors.mean(axis=0)) ** 2).sum()


def test_residual_books_do_not_find_them():
    vectors, values = facet_vectors()
    codes = ResidualKMeans(4, 6).fit(vectors, np.random.default_rng(0)).encode(vectors)
    found = [max(shared_part(codes[:, m], values[:, i]) for i in range(4)) for m in range(4)]
    assert sorted(found)[-3] < 0.6


def test_the_best_of_several_starts_has_the_least_error():
    vectors, _ = facet_vectors(2)

    def error(starts):
        books = AdditiveKMeans(4, 6, starts).fit(vectors, np.random.default_rng(2))
        return ((books.decode(books.encode(vectors)) - vectors) ** 2).sum()

    assert error(8) <= error(4) <= error(1)
    assert error(8) < error(1)


def test_parallel_codes_are_the_nearest_sums():
    rng = np.random.default_rng(0)
    words = rng.normal(size=(2, 4, 6)).astype(np.float32)
    sums = words[0][:, None] + words[1]  # 4, 4, 6
    vectors = rng.normal(size=(100, 6)).astype(np.float32)
    distances = ((vectors[:, None, None] - sums) ** 2).sum(axis=-1).reshape(100, 16)
    codes = ParallelCodebooks(words).encode(vectors)
    reached = distances[np.arange(100), codes[:, 0] * 4 + codes[:, 1]]
    assert (reached <= distances.min(axis=1) + 1e-4).mean() >= 0.9
    exact = sums.reshape(16, 6)
    assert (ParallelCodebooks(words).encode(exact) == np.argwhere(np.ones((4, 4)))).all()


def test_product_books_lie_in_orthogonal_parts():
    vectors = uneven(300, 8)
    books = ProductKMeans(3, 8).fit(vectors - vectors.mean(axis=0), np.random.default_rng(0))
    for first in range(3):
        for second in range(first):
            assert books.words[first] @ books.words[second].T == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="9 books, vectors of 8 numbers"):
        ProductKMeans(9, 8).fit(vectors, np.random.default_rng(0))


def test_product_parts_have_alike_variance():
    rng = np.random.default_rng(0)
    vectors = (0.01 * rng.normal(size=(500, 8)) * np.arange(1, 9)).astype(np.float32)
    parts = _deal_directions(vectors, 2)
    volumes = [np.log((vectors @ part.T).var(axis=0)).sum() for part in parts]
    assert [len(part) for part in parts] == [4, 4]
    assert abs(volumes[0] - volumes[1]) < 1.0  # 5 where one takes the largest four


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="books is 0"):
        AdditiveKMeans(books=0)
    with pytest.raises(ValueError, match="words is 1"):
        ProductKMeans(words=1)
    with pytest.raises(ValueError, match="epochs is 0"):
        ResidualAutoencoder(epochs=0)
