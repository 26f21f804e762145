"""A language model in this process, by transformers: for accelerators, and as the reader that
adapters are trained in.
"""

import copy
import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tailor.data.folders import sha256_of
from tailor.errors import MissingExtraError, ModelError
from tailor.llm.adapters import adapter_digest, with_adapter
from tailor.llm.chat import check_asked, check_texts, messages, unmarked
from tailor.ports.base import Completion, LanguageModel
from tailor.ports.weights import KNOWN, hub_answers, where
from tailor.text.sentences import without_bars

_lock = threading.Lock()


@dataclass(frozen=True)
class TorchModel(LanguageModel):
    """A causal language model of transformers: a model of `tailor models list`, a GGUF file, a
    folder, or a name on the hub.

    On a CPU it writes a few tokens a second (`LocalModel` is ten times faster); its scores are
    exact. An `adapter` changes what it says; models without it stay as they were.
    """

    model: str = "smollm2-135m"
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    system: str = "You are a helpful assistant."
    """Said before every prompt, where the model has roles."""
    context: int = 4096
    """Tokens of a prompt and its answer; a longer prompt is refused."""
    batch_size: int = 8
    adapter: str | None = None
    """Folder of a LoRA in peft's format, as `llm.lora.LoRA` writes it; taught to this model and no
    other.
    """

    def __post_init__(self) -> None:
        if self.context < 16 or self.batch_size < 1:
            raise ModelError(
                f"context is {self.context}, batch_size {self.batch_size}: at least 16 and 1"
            )

    @property
    def fingerprint(self) -> str:
        taught = (
            f" adapter {adapter_digest(Path(self.adapter))}" if self.adapter is not None else ""
        )
        return f"torch {self._place()} {self.dtype} {self.system!r} {self.context}{taught}"

    def _place(self) -> str:
        return (
            str(where(self.model) / next(iter(KNOWN[self.model].files)))
            if self.model in KNOWN
            else self.model
        )

    def capabilities(self) -> frozenset[str]:
        return frozenset({"score", "seed"})

    def tokens(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self._parts()[0](text, add_special_tokens=False).input_ids)

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
        """One prompt after the other, so that an answer does not depend on its company."""
        check_asked(prompts, max_tokens, temperature, n)
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
            self._written(self._asked(prompt), max_tokens, temperature, n, seed)
            for prompt in prompts
        ]

    def _written(
        self, ids: list[int], max_tokens: int, temperature: float, n: int, seed: int
    ) -> Completion:
        import torch

        if len(ids) + max_tokens > self.context:
            return Completion(
                (),
                len(ids),
                error=(
                    f"the prompt has {len(ids)} tokens, {max_tokens} more are asked for, and the"
                    f" context is {self.context}"
                ),
            )
        tokenizer, network = self._parts()
        drawn = (
            {"do_sample": True, "temperature": temperature, "top_k": 0}
            if temperature
            else {"do_sample": False}
        )
        given = torch.tensor([ids], device=self.device)
        # the caller's random state stays as it is
        with _lock, torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            rows = network.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=max_tokens,
                num_return_sequences=n,
                pad_token_id=tokenizer.eos_token_id,
                **drawn,
            )
        written = [row[len(ids) :].tolist() for row in rows]
        ends = [tokenizer.eos_token_id in row for row in written]
        count = sum(
            row.index(tokenizer.eos_token_id) + 1 if end else len(row)
            for row, end in zip(written, ends, strict=True)
        )
        return Completion(
            tuple(tokenizer.batch_decode(written, skip_special_tokens=True)),
            len(ids),
            count,
            tuple("stop" if end else "length" for end in ends),
        )

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """(n,) log-probability of all tokens of each answer, put after the prompt as the
        assistant's words. Raises ModelError for an empty answer.
        """
        check_texts(prompts, answers)
        import torch

        tokenizer, network = self._parts()
        pairs = self.pairs(prompts, answers)
        out = np.zeros(len(pairs))
        order = sorted(range(len(pairs)), key=lambda at: len(pairs[at][0]) + len(pairs[at][1]))
        for start in range(0, len(order), self.batch_size):
            some = order[start : start + self.batch_size]
            with _lock, torch.no_grad():
                out[some] = (
                    answer_log_probs(network, [pairs[at] for at in some], tokenizer.eos_token_id)
                    .cpu()
                    .numpy()
                )
        return out

    def pairs(
        self, prompts: Sequence[str], answers: Sequence[str], more: int = 0
    ) -> list[tuple[list[int], list[int]]]:
        """The tokens of each prompt and of its answer. Raises ModelError where an answer is empty,
        or the two with `more` tokens do not fit the context.
        """
        check_texts(prompts, answers)
        tokenizer = self._parts()[0]
        pairs = [
            (self._asked(prompt), list(tokenizer(answer, add_special_tokens=False).input_ids))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        for (asked, said), answer in zip(pairs, answers, strict=True):
            if not said or len(asked) + len(said) + more > self.context:
                raise ModelError(
                    f"the answer {answer[:40]!r} has {len(said)} tokens after a prompt of"
                    f" {len(asked)}: at least 1, and at most {self.context - more} together"
                )
        return pairs

    def _asked(self, prompt: str) -> list[int]:
        """The prompt's tokens as the model was taught to see them; marks of roles inside it are
        taken apart.
        """
        tokenizer = self._parts()[0]
        clean = unmarked(prompt)
        if not getattr(tokenizer, "chat_template", None):
            return list(tokenizer(clean).input_ids)
        text = tokenizer.apply_chat_template(
            messages(self.system, clean), add_generation_prompt=True, tokenize=False
        )
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    def _parts(self) -> tuple[Any, Any]:
        taught = (
            None if self.adapter is None else (self.adapter, adapter_digest(Path(self.adapter)))
        )
        with _load_lock:
            return _load(self._place(), self.device, self.dtype, taught)

    def base_digest(self) -> str:
        """What the weights are known by: a hash of their files where they lie here, else the name."""
        return _base_digest(self._place())

    def fresh(self) -> tuple[Any, Any]:
        """The tokenizer, and a copy of the network that is shared with nobody; without the adapter."""
        tokenizer, network = replace(self, adapter=None)._parts()
        return tokenizer, copy.deepcopy(network)


def answer_log_probs(
    network: Any, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], filler: int
) -> Any:
    """(B,) log-probability of each answer's tokens after its prompt's, as a tensor; `filler` is the
    token behind shorter ones, which nothing sees.
    """
    import torch

    rows = [[*asked, *said] for asked, said in pairs]
    longest = max(map(len, rows))
    # (B, T)
    ids = torch.tensor(
        [row + [filler] * (longest - len(row)) for row in rows], device=network.device
    )
    lengths, starts = torch.tensor(
        [[len(row), len(asked)] for row, (asked, _) in zip(rows, pairs, strict=True)],
        device=network.device,
    ).T
    place = torch.arange(longest, device=network.device)
    # (B, T, V)
    logits = (
        network(ids, attention_mask=(place < lengths[:, None]).long())
        .logits.float()
        .log_softmax(-1)
    )
    # (B, T - 1): of the token after each place
    found = logits[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    said = (place[1:] >= starts[:, None]) & (place[1:] < lengths[:, None])
    return found.masked_fill(~said, 0).sum(dim=1)


_load_lock = threading.Lock()


@functools.lru_cache(maxsize=2)
def _load(place: str, device: str, dtype: str, taught: tuple[str, str] | None) -> tuple[Any, Any]:
    tokenizer, network = _read(place, device, dtype)
    return tokenizer, (
        network if taught is None else with_adapter(network, Path(taught[0]), _base_digest(place))
    )


def _read(place: str, device: str, dtype: str) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "TorchModel needs torch and transformers: pip install 'tailor-engine[text,llm]'"
        ) from error
    source, more = _source(place)
    try:
        with without_bars():
            tokenizer = _tokenizer(place)
            network: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=getattr(torch, dtype), **more
            )
            network = network.to(device).eval()
    except Exception as error:  # many kinds, of several packages
        lacking = (
            ""
            if Path(place).exists()
            else (
                "; it is nothing here, and the hub may be out of reach: `tailor models list` shows"
                " what can be had offline"
            )
        )
        raise ModelError(
            f'the language model "{place}" cannot be loaded ({type(error).__name__}:'
            f" {str(error)[:200]}){lacking}"
        ) from error
    return tokenizer, network


@functools.lru_cache(maxsize=2)
def _tokenizer(place: str) -> Any:
    """Read once for all networks of a place, taught or not: out of a GGUF file it takes half as
    long as the weights.
    """
    from transformers import AutoTokenizer

    source, more = _source(place)
    return AutoTokenizer.from_pretrained(source, **more)


def _source(place: str) -> tuple[str, dict[str, Any]]:
    """What transformers calls a place, and what it must be told besides."""
    path = Path(place)
    more: dict[str, Any] = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    more["local_files_only"] = path.exists() or not hub_answers()
    return str(path.parent) if path.suffix == ".gguf" else place, more


@functools.lru_cache(maxsize=8)
def _base_digest(place: str) -> str:
    path = Path(place)
    files = (
        sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.is_file() else []
    )
    return " ".join(sha256_of(file)[:20] for file in files) or place
