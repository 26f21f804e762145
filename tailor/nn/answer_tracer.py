"""Trace what a student knows: a recurrent net over answers, and attention by what is asked.

Shapes: B students, T past answers, A asked questions, D width, N items, S tags of an item.
"""

import numpy as np
import torch
from torch import Tensor, nn

WRONG, RIGHT, UNANSWERED = 0, 1, 2
"""Codes of answers."""


class AnswerTracer(nn.Module):
    """Read answers one after the other, and attend to them by the question that is asked.

    `tags` (N + 1, S) are the tags of N items and of an unknown one, filled up with `n_tags`.
    """

    def __init__(self, tags: np.ndarray, n_tags: int, width: int, dropout: float) -> None:
        super().__init__()
        self.tags: Tensor
        self.register_buffer("tags", torch.from_numpy(tags), persistent=False)
        self.item_vectors = nn.Embedding(len(tags), width, padding_idx=len(tags) - 1)
        self.tag_vectors = nn.Embedding(n_tags + 1, width, padding_idx=n_tags)
        self.answer_vectors = nn.Embedding(3, width, padding_idx=UNANSWERED)
        self.states = nn.LSTM(width, width, batch_first=True)
        self.start = nn.Parameter(torch.zeros(width))
        self.key = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.age = nn.Parameter(torch.zeros(1))
        self.drop = nn.Dropout(dropout)
        self.tower = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, 1))
        for table in (self.item_vectors, self.tag_vectors, self.answer_vectors):
            nn.init.normal_(table.weight, std=0.1)
            with torch.no_grad():
                table.weight[table.padding_idx] = 0

    def questions(self, rows: Tensor) -> Tensor:
        """Return the vectors (..., D) of item rows: of the item, and the mean of its tags."""
        tags = self.tags[rows]
        is_tag = (tags < self.tag_vectors.num_embeddings - 1).unsqueeze(-1)
        sums = (self.tag_vectors(tags) * is_tag).sum(dim=-2)
        vectors: Tensor = self.item_vectors(rows) + sums / is_tag.sum(dim=-2).clamp(min=1)
        return vectors

    def forward(
        self, items: Tensor, answers: Tensor, asked: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, A) of right answers, and attention (B, A, 1 + T).

        `items` and `answers` (B, T) are past ones, `asked` (B, A) item rows, and `visible`
        (B, A, T) says which past answers may be seen. The first place stands for none of them.
        """
        pairs = self.questions(items) + self.answer_vectors(answers) * _is_answered(answers)
        start = self.start.expand(len(items), 1, -1)
        states = start
        if items.shape[1]:  # a recurrent layer refuses an empty sequence
            states = torch.cat([start, self.states(self.drop(pairs))[0]], dim=1)  # B, 1 + T, D
        questions = self.questions(asked)  # B, A, D
        products = self.query(questions) @ self.key(states).transpose(1, 2)
        is_seen = nn.functional.pad(visible, (1, 0), value=True)
        ages = is_seen.flip(-1).cumsum(dim=-1).flip(-1)  # 1: the latest that may be seen
        logits = products / states.shape[-1] ** 0.5 - self.age.exp() * ages.clamp(min=1).log()
        attention = logits.masked_fill(~is_seen, float("-inf")).softmax(dim=-1)
        context = attention @ states
        features = torch.cat([context, questions, context * questions], dim=-1)
        return self.tower(self.drop(features)).squeeze(-1), attention


def _is_answered(answers: Tensor) -> Tensor:
    """Return (..., 1) bool: whether codes of answers are right or wrong."""
    return (answers != UNANSWERED).unsqueeze(-1)
