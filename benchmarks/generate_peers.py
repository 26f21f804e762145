"""Beam search over semantic ids beside Hugging Face `generate` with a prefix function.

    python benchmarks/generate_peers.py [QUERIES]

The same weights, the same states of histories, 20 beams, one thread. `generate` asks a function
which digits may follow each prefix, as implementations of generative retrieval do; it gets the
states for nothing, so only decoding is timed. Prints digits a second (digits of returned items,
20 a query) and how many of the best ten items both return, on planted interests.
"""

import sys
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput
from writing import write_result

from tailor.core.run import Run
from tailor.data.splits import last_out
from tailor.generative.tiger import TIGER
from tailor.nn.decoding import beam_search
from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.text.hashing import HashingEncoder
from tailor.worlds.facets import facets

BEAMS = 20
START, END, FIRST = 0, 1, 2  # tokens: of the beginning, of the end, and the first digit's


class DecoderConfig(PretrainedConfig):
    """Sizes that `generate` asks for."""

    model_type = "semantic-ids"
    is_encoder_decoder = False


class PeerDecoder(PreTrainedModel, GenerationMixin):
    """Our decoder under the interface of `generate`: token = FIRST + offset of the level + digit."""

    config_class = DecoderConfig

    def __init__(self, decoder: SemanticIdDecoder) -> None:
        sizes = decoder.sizes
        self.offsets = [FIRST + int(sum(sizes[:level])) for level in range(len(sizes))]
        super().__init__(
            DecoderConfig(
                vocab_size=FIRST + sum(sizes),
                pad_token_id=END,
                eos_token_id=END,
                bos_token_id=START,
                num_hidden_layers=1,
            )
        )
        self.decoder = decoder

    def forward(
        self, input_ids: Tensor, states: Tensor, attention_mask: Tensor | None = None, **rest: Any
    ) -> CausalLMOutput:
        """Return the logits (B, 1, V) of the token after `input_ids` (B, T)."""
        level = input_ids.shape[1] - 1
        state = states
        for before in range(level):
            state = self.decoder.advance(before, state, self._digits(input_ids, before))
        logits = torch.full((len(states), 1, self.config.vocab_size), -1e9)
        if level == len(self.offsets):
            logits[:, 0, END] = 0
        else:
            own = self.decoder.logits(level, state)
            logits[:, 0, self.offsets[level] : self.offsets[level] + own.shape[1]] = own
        return CausalLMOutput(logits=logits)

    def _digits(self, input_ids: Tensor, level: int) -> Tensor:
        digits = input_ids[:, 1 + level] - self.offsets[level]
        return digits.clamp(0, self.decoder.sizes[level] - 1)  # a beam that has ended early

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        return {"input_ids": input_ids, "states": kwargs["states"]}


def prefixes(codes: np.ndarray, offsets: list[int]) -> dict[tuple[int, ...], list[int]]:
    """Return the tokens that may follow each prefix of tokens."""
    following: dict[tuple[int, ...], set[int]] = {}
    for code in codes.tolist():
        tokens = [offset + digit for offset, digit in zip(offsets, code, strict=True)]
        for level, token in enumerate([*tokens, END]):
            following.setdefault(tuple(tokens[:level]), set()).add(token)
    return {prefix: sorted(tokens) for prefix, tokens in following.items()}


def main(count: int = 200) -> None:
    """Print digits a second of both, in one run."""
    torch.set_num_threads(1)
    split = last_out(facets(800, 10, seed=0, values=(12, 12, 6, 6), wished=(), copies=2).data)
    method = TIGER(encoder=HashingEncoder(128), epochs=5, patience=None)
    method.fit(split.train, Run(workers=1))
    net: SemanticIdDecoder = method._ready()
    queries = split.queries("test")[0].reindexed(method.items_)[:count]
    states = torch.zeros(len(queries), method.width)
    with torch.inference_mode():
        for numbers, windows in method._query_batches(queries):
            states[numbers] = method._query_states(windows, queries.take(numbers))
        started = time.process_time()
        own, _ = beam_search(net, states, net.trie, BEAMS, None, closed=False)
        own_s = time.process_time() - started
        peer = PeerDecoder(net).eval()
        following = prefixes(method.codes_, peer.offsets)
        started = time.process_time()
        answers = peer.generate(
            torch.full((len(states), 1), START),
            attention_mask=torch.ones(len(states), 1, dtype=torch.long),
            states=states,
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=method.codes_.shape[1],
            min_new_tokens=method.codes_.shape[1],
            do_sample=False,
            length_penalty=0.0,
            use_cache=False,
            prefix_allowed_tokens_fn=lambda _, tokens: following.get(
                tuple(tokens[1:].tolist()), [END]
            ),
        )
        peer_s = time.process_time() - started
    digits = answers[:, 1:] - torch.tensor(peer.offsets)
    peer_items = net.trie.items_of(digits).unflatten(0, (-1, BEAMS))
    shared = [
        len(set(one[:10].tolist()) & set(two[:10].tolist()))
        for one, two in zip(own, peer_items, strict=True)
    ]
    generated = count * BEAMS * method.codes_.shape[1]
    figures = {
        "items": len(method.items_),
        "queries": count,
        "ours, digits/s": round(generated / own_s),
        "generate, digits/s": round(generated / peer_s),
        "times as fast": round(peer_s / own_s, 1),
        "ours, queries/s": round(count / own_s),
        "shared of the best ten": round(float(np.mean(shared)), 2),
        "items of generate that exist": round(float((peer_items >= 0).float().mean()), 4),
    }
    print(figures)
    print(write_result("generate-peers", 0, "python benchmarks/generate_peers.py", figures))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
