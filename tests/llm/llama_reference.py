"""A third reader of a GGUF file: every weight dequantised by the package gguf, the network written
out in numpy, in float32.
"""

import numpy as np


class Reference:
    def __init__(self, path):
        import gguf

        reader = gguf.GGUFReader(path)
        about = {
            name: one.contents() for name, one in reader.fields.items() if name.startswith("llama.")
        }
        self.heads, self.kv_heads = (
            about["llama.attention.head_count"],
            about["llama.attention.head_count_kv"],
        )
        self.blocks, self.width = about["llama.block_count"], about["llama.rope.dimension_count"]
        self.base, self.epsilon = (
            about["llama.rope.freq_base"],
            about["llama.attention.layer_norm_rms_epsilon"],
        )
        self.weights = {
            one.name: gguf.dequantize(one.data, one.tensor_type).astype(np.float32)
            for one in reader.tensors
        }

    def log_probs(self, ids):
        """(T - 1,) the log-probability of every token but the first, after those before it."""
        weights, count = self.weights, len(ids)
        x, mask = (
            weights["token_embd.weight"][ids],
            np.triu(np.full((count, count), -np.inf, np.float32), 1),
        )
        for block in range(self.blocks):
            part = {
                name: weights[f"blk.{block}.{name}.weight"]
                for name in (
                    "attn_norm",
                    "attn_q",
                    "attn_k",
                    "attn_v",
                    "attn_output",
                    "ffn_norm",
                    "ffn_gate",
                    "ffn_up",
                    "ffn_down",
                )
            }
            h = self._norm(x, part["attn_norm"])
            q, k = (
                self._turned((h @ part[name].T).reshape(count, -1, self.width))
                for name in ("attn_q", "attn_k")
            )
            v = (h @ part["attn_v"].T).reshape(count, -1, self.width)
            k, v = (np.repeat(one, self.heads // self.kv_heads, axis=1) for one in (k, v))
            attention = np.einsum("thd,shd->hts", q, k) / np.sqrt(self.width) + mask
            attention = np.exp(attention - attention.max(-1, keepdims=True))
            attention /= attention.sum(-1, keepdims=True)
            x = (
                x
                + np.einsum("hts,shd->thd", attention, v).reshape(count, -1) @ part["attn_output"].T
            )
            h = self._norm(x, part["ffn_norm"])
            gate = h @ part["ffn_gate"].T
            x = x + ((gate / (1 + np.exp(-gate))) * (h @ part["ffn_up"].T)) @ part["ffn_down"].T
        logits = self._norm(x, weights["output_norm.weight"]) @ weights["token_embd.weight"].T
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        return logits[np.arange(count - 1), ids[1:]]

    def _norm(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * weight

    def _turned(self, x):  # rotary positions on neighbouring pairs, as the format stores them
        angles = np.arange(len(x))[:, None] * self.base ** (
            -np.arange(0, self.width, 2) / self.width
        )
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out
