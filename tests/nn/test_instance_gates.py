"""Gates by example: cut at the largest gap, masks, and routing to a cluster's own net."""

import numpy as np
import torch

from tailor.nn.crossing import DeepCrossedFields
from tailor.nn.fields import CrossedFields, FieldBatch, FieldLayout, FieldVectors
from tailor.nn.instance_gates import (
    GatedVectors,
    MaskedVectors,
    RoutedNet,
    cut_at_gap,
    gate,
    numbers_of,
    open_gates,
)

LAYOUT = FieldLayout(6, [0, 1], np.zeros((1, 0), np.int64), np.zeros((1, 0)), 0)


def batch_of(codes):
    codes = torch.tensor(codes)
    none = torch.zeros(0)
    return FieldBatch(codes, torch.ones(codes.shape), none, none, none, none, none, none)


def test_numbers_above_the_largest_gap_stay():
    probabilities = torch.tensor([[0.9, 0.1, 0.8, 0.2], [0.9, 0.8, 0.7, 0.6], [0.1, 0.0, 0.0, 0.0]])
    assert cut_at_gap(probabilities).tolist() == [[1, 0, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert (cut_at_gap(torch.zeros(2, 3)).sum(dim=1) >= 1).all()


def test_a_mask_leaves_a_field_its_numbers_only():
    vectors = MaskedVectors(FieldVectors(6, 3, [0, 1], 1.0), np.array([[1, 0, 1], [0, 1, 0]]) > 0)
    found = vectors(torch.tensor([[0, 4]]), torch.ones(1, 2))
    assert (found[0, 0, 1] == 0) and (found[0, 1, [0, 2]] == 0).all() and found[0, 1, 1] != 0
    assert numbers_of(np.array([[[1, 0, 1], [0, 1, 0]]]), [2, 4]).tolist() == [2 * 2 + 1 * 4]


def test_gates_are_random_while_training_only():
    torch.manual_seed(0)
    net = gate(CrossedFields(LAYOUT, 3, 1.0), LAYOUT, 3, 4, 0.5)
    batch = batch_of([[0, 4], [1, 5]])
    assert not torch.equal(net(batch)[0], net(batch)[0])
    net.eval()
    assert torch.equal(net(batch)[0], net(batch)[0])
    assert net.vectors.probabilities.shape == (2, 2, 3)


def test_each_example_is_answered_by_the_net_of_its_cluster():
    torch.manual_seed(0)
    searched = gate(DeepCrossedFields(LAYOUT, 3, (4,), 0.0), LAYOUT, 3, 4, 0.5)
    router: GatedVectors = searched.vectors
    with torch.no_grad():
        router.vectors.table.weight.normal_()
        for layer in router.controller.layers:
            if isinstance(layer, torch.nn.Linear):
                layer.weight.normal_(std=3.0)
                layer.bias.zero_()
    batch = batch_of([[code, other] for code in (0, 1, 2) for other in (3, 4, 5)])
    gates = open_gates(router, batch).flatten(1).numpy()
    centres = np.unique(gates, axis=0)[:2]
    assert len(centres) == 2
    masks = np.array([[[1, 1, 0], [1, 0, 0]], [[0, 0, 1], [1, 1, 1]]]) > 0
    routed = RoutedNet(
        router, centres, masks, lambda: DeepCrossedFields(LAYOUT, 3, (4,), 0.0)
    ).eval()
    clusters = routed.clusters(batch)
    distances = ((gates[:, None] - centres[None]) ** 2).sum(axis=2)
    assert clusters.tolist() == distances.argmin(axis=1).tolist()
    assert len(set(clusters.tolist())) == 2
    logits, _ = routed(batch)
    for row, cluster in enumerate(clusters.tolist()):
        alone = batch_of([batch.codes[row].tolist()])
        assert torch.allclose(logits[row], routed.nets[cluster](alone)[0][0], atol=1e-6)
    assert not any(param.requires_grad for param in routed.router.parameters())
