"""What a spelling net learns by is what it answers by."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailor.nn.blocks import TransformerBlock  # noqa: E402
from tailor.nn.decoding import exact_scores  # noqa: E402
from tailor.nn.item_encoders import CodeItemEncoder  # noqa: E402
from tailor.nn.semantic_id_decoder import SemanticIdDecoder  # noqa: E402
from tailor.nn.sequence import SequenceNet  # noqa: E402

CODES = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 2, 0], [2, 0, 0], [2, 2, 0]])
SIZES = [3, 3, 2]
WIDTH = 8


@pytest.fixture
def net():
    torch.manual_seed(0)
    body = SequenceNet(
        len(CODES),
        WIDTH,
        [TransformerBlock(WIDTH)],
        item_encoder=CodeItemEncoder(torch.from_numpy(CODES), SIZES, WIDTH),
    )
    made = SemanticIdDecoder(body, CODES, SIZES, WIDTH)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return made.eval()


@pytest.mark.parametrize("closed", [True, False])
def test_the_loss_is_less_the_logarithm_of_the_share(net, closed):
    states, items = torch.randn(20, WIDTH), torch.arange(20) % len(CODES)
    with torch.no_grad():
        shares = exact_scores(net, states, net.trie, closed).gather(1, items[:, None])
        assert float(net.loss(states, items, closed)) == pytest.approx(
            -float(shares.mean()), abs=1e-5
        )


def test_closed_shares_are_of_one_whole_and_open_ones_lose_some(net):
    states = torch.randn(5, WIDTH)
    with torch.no_grad():
        assert exact_scores(net, states, net.trie).exp().sum(dim=1).numpy() == pytest.approx(
            np.ones(5), abs=1e-5
        )
        assert (exact_scores(net, states, net.trie, closed=False).exp().sum(dim=1) < 0.99).all()


def test_an_item_s_vector_is_the_sum_of_its_digits():
    front = CodeItemEncoder(torch.from_numpy(CODES), SIZES, 2)
    with torch.no_grad():
        front.digits.weight.copy_(torch.stack([10.0 ** torch.arange(8), torch.arange(8.0)], dim=1))
    assert front(torch.tensor([3, 1])).tolist() == [
        [10.0 + 100_000 + 1_000_000, 1 + 5 + 6],
        [1 + 1_000 + 10_000_000, 0 + 3 + 7],
    ]
    assert front.all_items().shape == (6, 2)


def test_a_text_is_added_to_its_digits():
    torch.manual_seed(0)
    texts = torch.randn(6, 4)
    both = CodeItemEncoder(torch.from_numpy(CODES), SIZES, 2, texts)
    alone = both.digits(both.codes[[2]]).sum(dim=1)
    assert torch.allclose(both(torch.tensor([2])), alone + both.map(texts[[2]]))
