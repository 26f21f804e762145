"""A language model in this process, by transformers.

It serves accelerators, and is the reader that adapters are trained in.
"""

import copy
import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tailor.data.folders import sha256_of
from tailor.errors import MissingExtraError, ModelError
from tailor.llm.adapters import adapter_digest, with_adapter
from tailor.llm.chat import check_request, check_texts, messages, unmarked
from tailor.llm.prefixes import clusters
from tailor.ports.base import Completion, LanguageModel
from tailor.ports.weights import KNOWN, hub_answers, pulled_folder
from tailor.text.sentences import without_bars

SHOWN_CHARACTERS = 200  # of another package's message
_lock = threading.Lock()


class TokenPair(NamedTuple):
    """The tokens of a prompt and of its answer."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True)
class TorchModel(LanguageModel):
    """A causal language model of transformers.

    It is a model of `tailor models list`, a GGUF file, a folder, or a name on the hub. On a CPU it
    writes a few tokens a second (`LocalModel` is ten times faster); its scores are exact. An
    `adapter` changes its answers; models without it stay as they were.
    """

    model: str = "smollm2-135m"
    """A name of `tailor models list` or of the hub, a GGUF file, or a folder."""
    device: str = "cpu"
    """Where it computes: "cpu", "cuda", "cuda:1"."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights."""
    system: str = "You are a helpful assistant."
    """System prompt, put before every prompt, where the model has roles."""
    context: int = 4096
    """Tokens of a prompt and its answer; a longer prompt is refused."""
    batch_size: int = 8
    """Pairs scored at once."""
    adapter: str | None = None
    """Folder of a LoRA in peft's format, as `llm.lora.LoRA` writes it, taught to this model; None:
    no adapter."""

    def __post_init__(self) -> None:
        if self.context < 16 or self.batch_size < 1:
            raise ModelError(
                f"context is {self.context}, batch_size {self.batch_size}: at least 16 and 1"
            )

    @property
    def fingerprint(self) -> str:
        base = f"torch {self._source()} {self.dtype} {self.system!r} {self.context}"
        if self.adapter is None:
            return base
        return f"{base} adapter {adapter_digest(Path(self.adapter))}"

    def _source(self) -> str:
        """Return the file, the folder or the name of the weights."""
        if self.model not in KNOWN:
            return self.model
        return str(pulled_folder(self.model) / next(iter(KNOWN[self.model].files)))

    def capabilities(self) -> frozenset[str]:
        return frozenset({"score", "choices", "seed"})

    def tokens(self, text: str) -> int:
        """Return how many tokens a text has."""
        return len(self._parts()[0](text, add_special_tokens=False).input_ids)

    def end_token(self) -> int:
        """Return the token that ends an answer."""
        return int(self._parts()[0].eos_token_id)

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        n: int = 1,
        seed: int = 0,
        schema: Mapping[str, Any] | None = None,
        images: Sequence[bytes] = (),
    ) -> list[Completion]:
        """Answer one prompt after the other, so that no answer depends on the other prompts."""
        check_request(prompts, max_tokens, temperature, n)
        if schema is not None or images:
            raise ModelError(
                f"TorchModel offers no {'schema' if schema is not None else 'images'}: LocalModel"
                " keeps schemas, an HTTPModel may read images"
            )
        if n > 1 and not temperature:
            raise ModelError(
                f"n is {n} at temperature 0: all answers would be the same; set a temperature"
            )
        return [
            self._complete_one(self.prompt_ids(prompt), max_tokens, temperature, n, seed)
            for prompt in prompts
        ]

    def _complete_one(
        self, ids: list[int], max_tokens: int, temperature: float, n: int, seed: int
    ) -> Completion:
        if len(ids) + max_tokens > self.context:
            error = (
                f"the prompt has {len(ids)} tokens, {max_tokens} more are asked for, and the"
                f" context is {self.context}"
            )
            return Completion((), len(ids), error=error)
        tokenizer = self._parts()[0]
        end = tokenizer.eos_token_id
        answers = self._generate(ids, max_tokens, temperature, n, seed)
        has_ended = [end in answer for answer in answers]
        count = sum(
            answer.index(end) + 1 if ended else len(answer)
            for answer, ended in zip(answers, has_ended, strict=True)
        )
        return Completion(
            tuple(tokenizer.batch_decode(answers, skip_special_tokens=True)),
            len(ids),
            count,
            tuple("stop" if ended else "length" for ended in has_ended),
        )

    def _generate(
        self, ids: list[int], max_tokens: int, temperature: float, n: int, seed: int
    ) -> list[list[int]]:
        """Return the tokens of n answers."""
        import torch

        tokenizer, network = self._parts()
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0}
        prompt_ids = torch.tensor([ids], device=self.device)  # (1, T)
        # the caller's random state stays as it is
        with _lock, torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            rows = network.generate(
                prompt_ids,
                attention_mask=torch.ones_like(prompt_ids),
                max_new_tokens=max_tokens,
                num_return_sequences=n,
                pad_token_id=tokenizer.eos_token_id,
                **sampling,
            )
        return [row[len(ids) :].tolist() for row in rows]

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Return (n,) log-probabilities of all tokens of each answer.

        The answer follows the prompt as the assistant's words. Raises ModelError for an empty
        answer, and for one that does not fit the context.
        """
        check_texts(prompts, answers)
        import torch

        tokenizer, network = self._parts()
        pairs = self.pairs(prompts, answers)
        scores = np.zeros(len(pairs))
        for rows, shared, cache in self._batches([pair.prompt for pair in pairs]):
            batch = [TokenPair(pairs[i].prompt[shared:], pairs[i].answer) for i in rows]
            with _lock, torch.no_grad():
                log_probs = answer_log_probs(network, batch, tokenizer.eos_token_id, cache)
            scores[rows] = log_probs.cpu().numpy()
        return scores

    def _batches(self, prompts: Sequence[list[int]]) -> Iterator[tuple[list[int], int, Any]]:
        """Yield numbers of prompts, the tokens of their common beginning, and what it left.

        Prompts of a batch are of like length, so that few tokens are filled in.
        """
        import torch

        network = self._parts()[1]
        for cluster in clusters(prompts):
            cache = None
            if cluster.shared:
                first = torch.tensor([prompts[cluster.rows[0]][: cluster.shared]])
                with _lock, torch.no_grad():
                    output = network(first.to(network.device), use_cache=True, logits_to_keep=1)
                cache = output.past_key_values
            rows = sorted(cluster.rows, key=lambda row: len(prompts[row]))
            for start in range(0, len(rows), self.batch_size):
                yield rows[start : start + self.batch_size], cluster.shared, cache

    def choices(self, prompts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        """Return (P, L) log-probabilities of each label as the answer to each prompt.

        Labels of one token each are read off one pass of the prompt, and what several prompts
        begin with is read once.
        """
        tokenizer, network = self._parts()
        tokens = [tokenizer(label, add_special_tokens=False).input_ids for label in labels]
        if any(len(of_label) != 1 for of_label in tokens):
            return super().choices(prompts, labels)
        check_texts(prompts, prompts)
        import torch

        label_ids = [of_label[0] for of_label in tokens]
        values = np.zeros((len(prompts), len(labels)))
        prompt_ids = [self.prompt_ids(prompt) for prompt in prompts]
        self._check_lengths(prompt_ids)
        for rows, shared, cache in self._batches(prompt_ids):
            batch = [prompt_ids[row][shared:] for row in rows]
            with _lock, torch.no_grad():
                log_probs = next_log_probs(network, batch, tokenizer.eos_token_id, cache)
            values[rows] = log_probs[:, label_ids].cpu().numpy()
        return values

    def _check_lengths(self, prompts: Sequence[list[int]]) -> None:
        """Raise ModelError for a prompt that leaves no room for an answer."""
        longest = max(map(len, prompts), default=0)
        if longest + 1 > self.context:
            raise ModelError(
                f"a prompt has {longest} tokens, and the context is {self.context}: shorten the"
                " prompt, or set a larger context"
            )

    def pairs(
        self, prompts: Sequence[str], answers: Sequence[str], extra: int = 0
    ) -> list[TokenPair]:
        """Return the tokens of each prompt and of its answer.

        Raises ModelError where an answer is empty, or the two with `extra` tokens do not fit the
        context.
        """
        check_texts(prompts, answers)
        tokenizer = self._parts()[0]
        pairs = [
            TokenPair(
                self.prompt_ids(prompt),
                list(tokenizer(answer, add_special_tokens=False).input_ids),
            )
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        for pair, answer in zip(pairs, answers, strict=True):
            if not pair.answer or len(pair.prompt) + len(pair.answer) + extra > self.context:
                raise ModelError(
                    f"the answer {answer[:40]!r} has {len(pair.answer)} tokens after a prompt of"
                    f" {len(pair.prompt)}: at least 1, and at most {self.context - extra} together"
                )
        return pairs

    def prompt_ids(self, prompt: str) -> list[int]:
        """Return a prompt's tokens in the model's chat format; marks of roles are broken up."""
        tokenizer = self._parts()[0]
        clean = unmarked(prompt)
        if not getattr(tokenizer, "chat_template", None):
            return list(tokenizer(clean).input_ids)
        text = tokenizer.apply_chat_template(
            messages(self.system, clean), add_generation_prompt=True, tokenize=False
        )
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    def _parts(self) -> tuple[Any, Any]:
        """Return the tokenizer and the network, loaded when first needed."""
        adapter = None
        if self.adapter is not None:
            adapter = (self.adapter, adapter_digest(Path(self.adapter)))
        with _load_lock:
            return _load(self._source(), self.device, self.dtype, adapter)

    def base_digest(self) -> str:
        """Return a hash of the weights' files where they are here, else the model's name."""
        return _base_digest(self._source())

    def fresh(self) -> tuple[Any, Any]:
        """Return the tokenizer, and a copy of the network without the adapter, shared by nobody."""
        tokenizer, network = replace(self, adapter=None)._parts()
        return tokenizer, copy.deepcopy(network)


def answer_log_probs(
    network: Any, pairs: Sequence[TokenPair], filler: int, cache: Any = None
) -> Any:
    """Return (B,) log-probabilities of each answer's tokens after its prompt's, as a tensor.

    `filler` is the token behind shorter texts, which attention masks; `cache` holds what the
    network read before all prompts.
    """
    import torch

    batch = _Batch.of(network, [[*prompt, *answer] for prompt, answer in pairs], filler)
    starts = torch.tensor([len(prompt) for prompt, _ in pairs], device=network.device)[:, None]
    positions = torch.arange(1, batch.ids.shape[1], device=network.device)  # (T - 1,)
    is_answer = (positions >= starts) & (positions < batch.lengths[:, None])  # (B, T - 1)
    read = is_answer.any(dim=0).nonzero()[:, 0]  # (K,), where an answer's token comes next
    logits = batch.logits(network, cache, read)  # (B, K, V)
    log_probs = logits.float().log_softmax(-1)
    next_log_probs = log_probs.gather(2, batch.ids[:, read + 1, None])[..., 0]  # (B, K)
    return next_log_probs.masked_fill(~is_answer[:, read], 0).sum(dim=1)


def next_log_probs(
    network: Any, prompts: Sequence[list[int]], filler: int, cache: Any = None
) -> Any:
    """Return (B, V) log-probabilities of the token after each prompt, as a tensor.

    `filler` is the token behind shorter texts, which attention masks; `cache` holds what the
    network read before all prompts.
    """
    import torch

    batch = _Batch.of(network, prompts, filler)
    ends, columns = (batch.lengths - 1).unique(return_inverse=True)  # (K,), (B,)
    logits = batch.logits(network, cache, ends)  # (B, K, V)
    rows = torch.arange(len(prompts), device=network.device)
    return logits[rows, columns].float().log_softmax(-1)


class _Batch(NamedTuple):
    """Texts of a batch as tensors."""

    ids: Any
    """(B, T) tokens, with a filler behind shorter texts."""
    lengths: Any
    """(B,) tokens of the texts."""

    @classmethod
    def of(cls, network: Any, texts: Sequence[Sequence[int]], filler: int) -> "_Batch":
        """Return texts on the network's device."""
        import torch

        width = max(map(len, texts))
        rows = [[*text, *[filler] * (width - len(text))] for text in texts]
        lengths = torch.tensor([len(text) for text in texts], device=network.device)
        return cls(torch.tensor(rows, device=network.device), lengths)

    def logits(self, network: Any, cache: Any, positions: Any) -> Any:
        """Return (B, K, V) logits behind these positions (K,) only: the vocabulary is wide."""
        import torch

        past = 0 if cache is None else cache.get_seq_length()
        columns = torch.arange(past + self.ids.shape[1], device=self.ids.device)
        mask = (columns < past + self.lengths[:, None]).long()  # (B, P + T)
        cached = {}
        if cache is not None:
            copies = copy.deepcopy(cache)  # a cache grows by what is read
            copies.batch_repeat_interleave(len(self.ids))
            cached["past_key_values"] = copies
        return network(self.ids, attention_mask=mask, logits_to_keep=positions, **cached).logits


_load_lock = threading.Lock()


@functools.lru_cache(maxsize=2)
def _load(source: str, device: str, dtype: str, adapter: tuple[str, str] | None) -> tuple[Any, Any]:
    tokenizer, network = _read(source, device, dtype)
    if adapter is not None:
        network = with_adapter(network, Path(adapter[0]), _base_digest(source))
    return tokenizer, network


def _read(source: str, device: str, dtype: str) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "TorchModel needs torch and transformers: pip install 'tailor-engine[text,llm]'"
        ) from error
    name, options = _transformers_name(source)
    try:
        with without_bars():
            tokenizer = _tokenizer(source)
            network: Any = AutoModelForCausalLM.from_pretrained(
                name, dtype=getattr(torch, dtype), **options
            )
            network = network.to(device).eval()
    except Exception as error:  # many kinds, of several packages
        hint = ""
        if not Path(source).exists():
            hint = (
                "; it is nothing here, and the hub may be out of reach: `tailor models list` shows"
                " what can be had offline"
            )
        raise ModelError(
            f'the language model "{source}" cannot be loaded ({type(error).__name__}:'
            f" {str(error)[:SHOWN_CHARACTERS]}){hint}"
        ) from error
    return tokenizer, network


@functools.lru_cache(maxsize=2)
def _tokenizer(source: str) -> Any:
    """Read a tokenizer once for all networks of a source, with an adapter or without.

    Out of a GGUF file it takes half as long as the weights.
    """
    from transformers import AutoTokenizer

    name, options = _transformers_name(source)
    return AutoTokenizer.from_pretrained(name, **options)


def _transformers_name(source: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a source for transformers, and further arguments."""
    path = Path(source)
    options: dict[str, Any] = {"local_files_only": path.exists() or not hub_answers()}
    if path.suffix != ".gguf":
        return source, options
    return str(path.parent), {"gguf_file": path.name, **options}


@functools.lru_cache(maxsize=8)
def _base_digest(source: str) -> str:
    path = Path(source)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return " ".join(sha256_of(file)[:20] for file in files) or source
