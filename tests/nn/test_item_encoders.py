"""Item vectors made from texts: read by row, mapped once when ready, made anew while learning."""

import pytest

torch = pytest.importorskip("torch")

from tailor.nn.item_encoders import AttributeItemEncoder, TextItemEncoder, TextMap  # noqa: E402
from tailor.nn.losses import InBatchSoftmax, SampledSoftmax  # noqa: E402
from tailor.nn.sequence import SequenceNet  # noqa: E402

TEXTS = torch.nn.functional.normalize(
    torch.randn(7, 6, generator=torch.Generator().manual_seed(0)), dim=-1
)


def test_rows_are_rows_of_all_and_texts_are_no_weights():
    front = TextItemEncoder(TEXTS, 4, hidden=5)
    rows = torch.tensor([[3, 0], [6, 3]])
    assert torch.allclose(front(rows), front.all_items()[rows]) and front(rows).shape == (2, 2, 4)
    assert set(front.state_dict()) == {
        "map.first.weight",
        "map.first.bias",
        "map.last.weight",
        "map.last.bias",
    }
    assert torch.equal(TextItemEncoder(TEXTS, None)(rows), TEXTS[rows])


def test_a_front_that_is_ready_maps_once_and_forgets_when_it_learns_again():
    front = TextItemEncoder(TEXTS, 4).eval()
    with torch.no_grad():
        before = front.all_items()
        assert front.all_items() is before
        front.map.last.weight.mul_(2)
        assert front.all_items() is before  # weights of a net that is ready do not move
        front.train()
        front.eval()
        assert not torch.allclose(front.all_items(), before)
    assert front.all_items().requires_grad  # with gradients it is made anew


def test_unit_length_and_one_linear_map_without_bias():
    front = TextItemEncoder(TEXTS, 4, bias=False, unit=True)
    assert torch.allclose(front.all_items().norm(dim=-1), torch.ones(7), atol=1e-6)
    plain = TextMap(6, 4, bias=False)
    # a mean may be mapped before or after
    assert torch.allclose(plain(TEXTS.mean(dim=0)), plain(TEXTS).mean(dim=0), atol=1e-6)


def test_a_sequence_net_reads_and_compares_through_its_front():
    front = TextItemEncoder(TEXTS, 4)
    first = front.map.last.weight.clone()
    net = SequenceNet(7, 4, [], temperature=0.1, item_encoder=front)
    assert torch.equal(net.table.map.last.weight, first)  # it begins as it was made
    assert torch.allclose(net.catalogue(), torch.nn.functional.normalize(front.all_items(), dim=-1))


def test_rows_that_are_the_same_are_no_negatives():
    states, items = torch.randn(2, 3), torch.randn(5, 3)
    targets, drawn = torch.tensor([0, 1]), torch.tensor([2, 3, 4])
    same = torch.tensor([0, 1, 0, 3, 4])  # row 2 is row 0 to the eye
    got = SampledSoftmax()(states, items[targets], items[drawn], targets, drawn, 4, same)
    losses = []
    for i, others in ((0, [3, 4]), (1, [2, 3, 4])):
        logits = torch.cat(
            [
                (states[i] @ items[targets[i]])[None],
                states[i] @ items[others].T + torch.log(torch.tensor(3 / 3)),
            ]
        )
        losses.append(-logits.log_softmax(dim=0)[0])
    assert got == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_hard_negatives_stand_beside_the_batch_s_own_targets():
    states, items = torch.randn(2, 3), torch.randn(6, 3)
    targets, share = torch.tensor([0, 1]), torch.tensor([-1.0, -2.0])
    hard, real = items[torch.tensor([[2, 3], [4, 0]])], torch.tensor([[True, True], [True, False]])
    got = InBatchSoftmax()(states, items[targets], targets, share, hard, real)
    losses = []
    for i, mine in ((0, [2, 3]), (1, [4])):
        logits = torch.cat(
            [states[i] @ items[targets].T - share, states[i] @ items[mine].T - share.mean()]
        )
        losses.append(-logits.log_softmax(dim=0)[i])
    assert got == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert InBatchSoftmax()(states, items[targets], targets, share) < got


def test_vectors_of_attributes_are_their_mean_and_one_of_the_items_own():
    attributes = torch.tensor([[0, 1], [1, -1], [-1, -1]])
    encoder = AttributeItemEncoder(attributes, 2, 4)
    values, own = encoder.values.weight, encoder.own.weight
    expected = torch.stack([(values[0] + values[1]) / 2 + own[0], values[1] + own[1], own[2]])
    assert torch.allclose(encoder.all_items(), expected)
    assert torch.allclose(encoder(torch.tensor([[2, 0]])), expected[[2, 0]][None])
    bare = AttributeItemEncoder(attributes, 2, 4, own=False)
    assert not bare.all_items()[2].any()
