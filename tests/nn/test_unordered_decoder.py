"""Codes in any order: losses by hand, search against all codes, digits that go together."""

import numpy as np
import pytest
import torch

from tailor.nn.positions import LearnedPositions
from tailor.nn.sequence import SequenceNet
from tailor.nn.unordered_decoder import (
    UnorderedDecoder,
    code_affinities,
    consistency,
    first_items,
    items_of_beams,
    search_unordered,
)

SIZES = [3, 2, 4, 3]  # three books and the last digit
BOOKS = 3


def codes_of_items(n=20, seed=0):
    """Unique codes of three books and a last digit."""
    rng = np.random.default_rng(seed)
    books = np.stack([rng.integers(size, size=n) for size in SIZES[:-1]], axis=1)
    last = [(books[:i] == books[i]).all(axis=1).sum() for i in range(n)]
    return np.column_stack([books, last]).astype(np.int32)


def decoder(shuffled=True, seed=0, **settings):
    torch.manual_seed(seed)
    codes = codes_of_items(**settings)
    sizes = [*SIZES[:-1], int(codes[:, -1].max()) + 1]
    body = SequenceNet(len(codes), 8, [], positions=LearnedPositions(4, 8))
    made = UnorderedDecoder(body, codes, sizes, 8, shuffled=shuffled).eval()
    for head in made.heads:
        torch.nn.init.normal_(head.weight, std=1.0)  # so that digits differ
    return made


def states(n=4, seed=1):
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))


def loss_in_order(net, state, code, order):
    """Minus the log-probability of one item, book by book in this order."""
    total = 0.0
    for book in order:
        total -= net.logits(book, state)[0].log_softmax(dim=0)[code[book]].item()
        state = net.advance(book, state, torch.tensor([code[book]]))
    logits = net.logits(BOOKS, state)[0]
    same = (net.codes[:, :BOOKS] == torch.tensor(code[:BOOKS])).all(dim=1)
    digits = net.codes[same, BOOKS]
    return total + (logits[digits].logsumexp(dim=0) - logits[code[BOOKS]]).item()


def test_the_loss_follows_the_order(monkeypatch):
    net = decoder()
    items = torch.tensor([3, 5, 5, 11])
    for order in ([0, 1, 2], [2, 0, 1]):
        monkeypatch.setattr(UnorderedDecoder, "_order", lambda self, order=order: order)
        expected = [
            loss_in_order(net, states()[i : i + 1], net.codes[item].tolist(), order)
            for i, item in enumerate(items.tolist())
        ]
        assert net.loss(states(), items).item() == pytest.approx(np.mean(expected), abs=1e-4)


def test_each_book_has_a_norm_of_its_own():
    net = decoder()
    with torch.no_grad():
        before = [net.logits(book, states()) for book in range(2)]
        net.state_norms[1].bias.add_(torch.arange(8.0))
        after = [net.logits(book, states()) for book in range(2)]
    assert torch.equal(before[0], after[0]) and not torch.allclose(before[1], after[1], atol=1e-2)


def test_orders_are_drawn_while_learning_or_fixed():
    net = decoder()
    assert len({tuple(net._order()) for _ in range(200)}) == 6
    assert decoder(shuffled=False)._order() == [0, 1, 2]


def best_by_hand(net, state, allowed, confident):
    """All allowed codes with their log-probabilities, by walking every path of one query."""
    answers = {}

    def walk(state, code, score):
        free = [book for book in range(BOOKS) if code[book] < 0]
        if not free:
            answers[tuple(code)] = score
            return
        taken = torch.tensor([digit >= 0 for digit in code])
        fits = (net.codes[:, :BOOKS] == torch.tensor(code))[:, taken].all(dim=1) & allowed
        shares = {}
        for book in free:
            digits = torch.unique(net.codes[fits, book])
            logits = net.logits(book, state)[0, digits]
            shares[book] = dict(zip(digits.tolist(), logits.log_softmax(dim=0).tolist()))
        book = free[0]
        if confident:
            book = max(free, key=lambda book: max(shares[book].values()))
        for digit, share in shares[book].items():
            longer = [digit if i == book else old for i, old in enumerate(code)]
            walk(net.advance(book, state, torch.tensor([digit])), longer, score + share)

    walk(state, [-1] * BOOKS, 0.0)
    return answers


@pytest.mark.parametrize("confident", [True, False])
def test_a_wide_search_finds_every_code_with_its_probability(confident):
    net = decoder()
    allowed = torch.ones(4, 20, dtype=torch.bool)
    allowed[1, ::2] = False
    with torch.inference_mode():
        beams = search_unordered(net, states(), 50, allowed, confident)
        for i in range(4):
            expected = best_by_hand(net, states()[i : i + 1], allowed[i], confident)
            real = beams.scores[i] > -torch.inf
            answers = dict(
                zip(map(tuple, beams.codes[i, real].tolist()), beams.scores[i, real].tolist())
            )
            assert answers == pytest.approx(expected, abs=1e-4)
            assert sum(np.exp(list(answers.values()))) == pytest.approx(1, abs=1e-4)
        assert (beams.scores[:, :-1] >= beams.scores[:, 1:]).all()


def test_the_surest_book_comes_first():
    net = decoder()
    with torch.no_grad():
        for book in range(BOOKS):
            net.heads[book].weight.zero_()
            net.heads[book].bias.zero_()
        net.heads[2].bias[1] = 5.0  # of the third book the net is sure
    allowed = torch.ones(1, 20, dtype=torch.bool)
    with torch.inference_mode():
        confident = search_unordered(net, states(1), 1, allowed)
        fixed = search_unordered(net, states(1), 1, allowed, confident=False)
    assert confident.codes[0, 0, 2] == 1
    # a single beam that began with another book may have left what the third book wants
    assert confident.scores[0, 0] >= fixed.scores[0, 0]


def test_a_narrow_search_fills_its_width():
    net = decoder(n=30)
    allowed = torch.zeros(3, 30, dtype=torch.bool)
    allowed[0, :7] = True
    allowed[1, 20:22] = True
    with torch.inference_mode():
        beams = search_unordered(net, states(3), 5, allowed)
        rows, scores = items_of_beams(net, beams, allowed)
    codes = len(np.unique(net.codes[:7, :BOOKS].numpy(), axis=0))
    assert len(set(rows[0][rows[0] >= 0].tolist())) >= min(5, codes)
    assert set(rows[1][rows[1] >= 0].tolist()) == {20, 21}
    assert (rows[2] == -1).all() and np.isneginf(scores[2]).all()


def test_items_of_beams_have_the_probability_of_all_their_digits():
    net = decoder()
    allowed = torch.ones(2, 20, dtype=torch.bool)
    allowed[0, 4] = False
    with torch.inference_mode():
        beams = search_unordered(net, states(2), 50, allowed)
        rows, scores = items_of_beams(net, beams, allowed)
    assert sorted(rows[1].tolist()) == list(range(20))
    assert sorted(rows[0][rows[0] >= 0].tolist()) == [i for i in range(20) if i != 4]
    assert np.exp(scores[1]).sum() == pytest.approx(1, abs=1e-4)
    assert (np.diff(scores[1]) <= 0).all()
    by_hand = best_by_hand(net, states(2)[1:2], allowed[1], True)
    of_code = {code: 0.0 for code in by_hand}
    for row, score in zip(rows[1].tolist(), scores[1].tolist()):
        of_code[tuple(net.codes[row, :BOOKS].tolist())] += np.exp(score)
    assert {code: np.log(share) for code, share in of_code.items()} == pytest.approx(
        by_hand, abs=1e-3
    )


def test_free_codes_need_no_item():
    net = decoder()
    with torch.inference_mode():
        beams = search_unordered(net, states(1), 24, None)
    real = beams.scores[0] > -torch.inf
    codes = beams.codes[0, real]
    assert len(codes) == 24 and len(torch.unique(codes, dim=0)) == 24  # 3 x 2 x 4
    assert beams.scores[0, real].exp().sum().item() == pytest.approx(1, abs=1e-4)
    first = first_items(net, codes)
    existing = {tuple(code) for code in net.codes[:, :BOOKS].tolist()}
    for code, row in zip(codes.tolist(), first.tolist()):
        assert (row >= 0) == (tuple(code) in existing)
        if row >= 0:
            assert net.codes[row, :BOOKS].tolist() == code


def test_affinities_by_hand():
    codes = np.array([[0, 0], [0, 0], [0, 0], [1, 1]])
    values = code_affinities(codes, [2, 2])
    # 3 of 4 meet where 2.25 are met by chance, one where a quarter is; the others never do
    assert values[0, 0, 1, 0] == pytest.approx(np.log((3 + 0.5625) / (2.25 + 0.5625)), abs=1e-5)
    assert values[1, 1, 0, 1] == pytest.approx(np.log((1 + 0.0625) / (0.25 + 0.0625)), abs=1e-5)
    assert values[0, 0, 1, 1] == pytest.approx(np.log(0.1875 / (0.75 + 0.1875)), abs=1e-5)
    assert (values[0, :, 0] == 0).all()
    total = consistency(np.array([[0, 0], [0, 1]]), values)
    assert total[0] > 0 > total[1]
    full = np.stack(np.meshgrid(range(3), range(2)), axis=-1).reshape(-1, 2)
    assert code_affinities(full, [3, 2]) == pytest.approx(0, abs=1e-6)
