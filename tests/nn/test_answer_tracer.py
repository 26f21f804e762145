import numpy as np
import torch

from tailor.nn.answer_tracer import RIGHT, UNANSWERED, WRONG, AnswerTracer


def net_of(tags):
    torch.manual_seed(0)
    return AnswerTracer(np.array(tags), n_tags=2, width=8, dropout=0.5).eval()


def test_attention_is_spread_over_what_may_be_seen():
    net = net_of([[0, 2], [1, 0], [2, 2], [2, 2]])
    items = torch.tensor([[0, 1, 2]])
    answers = torch.tensor([[RIGHT, WRONG, RIGHT]])
    visible = torch.tensor([[[True, False, True], [False, False, False]]])
    _, attention = net(items, answers, torch.tensor([[1, 1]]), visible)
    assert torch.allclose(attention.sum(dim=-1), torch.ones(1, 2))
    assert attention[0, 0, 2] == 0 and (attention[0, 0, [0, 1, 3]] > 0).all()
    assert attention[0, 1].tolist() == [1, 0, 0, 0]


def test_a_question_is_its_own_vector_and_the_mean_of_its_tags():
    net = net_of([[0, 2], [1, 0], [2, 2], [2, 2]])
    vectors = net.questions(torch.tensor([0, 1, 2, 3]))
    items, tags = net.item_vectors.weight, net.tag_vectors.weight
    assert torch.allclose(vectors[0], items[0] + tags[0])
    assert torch.allclose(vectors[1], items[1] + (tags[0] + tags[1]) / 2)
    assert torch.allclose(vectors[2], items[2])
    assert (vectors[3] == 0).all()


def test_an_unknown_answer_is_the_question_alone():
    net = net_of([[0, 2], [1, 0], [2, 2], [2, 2]])
    items, visible = torch.tensor([[0, 1]]), torch.ones(1, 1, 2, dtype=torch.bool)
    asked = torch.tensor([[2]])
    by_code = [
        net(items, torch.tensor([[code, code]]), asked, visible)[0].item()
        for code in (WRONG, RIGHT, UNANSWERED)
    ]
    assert len(set(by_code)) == 3
    with torch.no_grad():
        net.answer_vectors.weight[UNANSWERED] = 7.0
    again = net(items, torch.full((1, 2), UNANSWERED), asked, visible)[0].item()
    assert again == by_code[2]
