"""A net that reads words and items as one sequence, and says the next word or item.

Shapes: B sequences, T tokens, M positions, D width, W words, N items.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from tailor.nn.sequence import ItemEncoder, SequenceNet


class TokenNet(SequenceNet):
    """A causal net over tokens: words first, numbered 0 to W - 1, then items from W on.

    A word has a vector of its own, which the next word is compared with too. An item is one token,
    whose vector its item encoder makes. `SemanticIdDecoder` on top of it spells the next item.
    """

    def __init__(
        self,
        words: int,
        items: int,
        item_encoder: ItemEncoder,
        width: int,
        layers: Sequence[nn.Module],
        dropout: float = 0.0,
    ) -> None:
        super().__init__(items, width, layers, dropout, item_encoder=item_encoder)
        self.words = nn.Embedding(words, width)
        # a narrow net learns many times slower from the small first weights of a sequence net
        matrices = [part.weight for part in self.layers.modules() if isinstance(part, nn.Linear)]
        for matrix in (self.words.weight, *matrices):
            nn.init.normal_(matrix, std=matrix.shape[1] ** -0.5)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the vectors (B, T, D) of tokens (B, T)."""
        is_item = tokens >= len(self.words.weight)
        vectors: Tensor = self.words(tokens.masked_fill(is_item, 0))
        if not is_item.any():
            return vectors
        items = tokens[is_item] - len(self.words.weight)
        return vectors.masked_scatter(is_item[..., None], self.table(items).to(vectors.dtype))

    def read(self, tokens: Tensor) -> Tensor:
        """Return the states (B, T, D) after each of the tokens (B, T)."""
        return self.states(self.embed(tokens))

    def word_logits(self, states: Tensor) -> Tensor:
        """Return the logits (M, W) of the next word after states (M, D)."""
        return (states @ self.words.weight.T).float()
