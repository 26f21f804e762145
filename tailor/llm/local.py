"""A small language model in this process."""

import functools
import importlib.util
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tailor.data.folders import sha256_of
from tailor.errors import MissingExtraError, ModelError
from tailor.llm.chat import check_request, check_texts, messages, unmarked
from tailor.llm.gguf_files import rewritten
from tailor.ports.base import Completion, LanguageModel
from tailor.ports.weights import KNOWN, pulled_folder

# Settings under which the score of an answer depends on nothing but its prompt and the weights.
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}
AT_ONCE = 64  # prompts handed over together
CACHE_GIGABYTES = 2
SHOWN_CHARACTERS = 300  # of another package's message
_lock = threading.Lock()


class _Pair(NamedTuple):
    """The tokens of a prompt and of its answer."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True)
class LocalModel(LanguageModel):
    """A GGUF model in this process, by openvino-genai; by default SmolLM2-135M-Instruct.

    `tailor models pull smollm2-135m` fetches it. At "exact" precision scores are those of the
    file's weights, and depend on nothing else, to 1e-3; "fast" rounds weights to 8 bits and
    computes in shorter numbers, so that texts come sooner and scores are off by tenths. Such a
    small model writes fluently and judges poorly: measure before you rely on it.
    """

    model: str = "smollm2-135m"
    """A name of `tailor models list`, or the path of a GGUF file."""
    precision: Literal["exact", "fast"] = "exact"
    """Whether scores are exact, or texts come sooner."""
    system: str = "You are a helpful assistant."
    """System prompt, put before every prompt."""
    context: int = 4096
    """Tokens of a prompt and its answer; a longer prompt is refused."""

    def __post_init__(self) -> None:
        if self.context < 16:
            raise ModelError(f"context is {self.context} tokens: at least 16")

    @property
    def fingerprint(self) -> str:
        return f"local {_digest(self._file())} {self.precision} {self.system!r} {self.context}"

    def _file(self) -> Path:
        if self.model in KNOWN:
            return pulled_folder(self.model) / next(iter(KNOWN[self.model].files))
        path = Path(self.model)
        if path.suffix != ".gguf" or not path.is_file():
            raise ModelError(
                f'model is "{self.model}": it must be a model of `tailor models list` or a GGUF'
                " file that is there"
            )
        return path

    def capabilities(self) -> frozenset[str]:
        with_torch = {"choices"} if _reads_labels() else set()
        return frozenset({"score", "schema", "seed"} | with_torch)

    def tokens(self, text: str) -> int:
        """Return how many tokens a text has."""
        return len(self._ids(text))

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
        """Return one completion per prompt; one over the context holds an error.

        With a schema, a text that ends with "stop" is JSON that meets it.
        """
        check_request(prompts, max_tokens, temperature, n)
        if images:
            raise ModelError("LocalModel reads no images: use an HTTPModel of a server that does")
        chats = [self._chat(prompt) for prompt in prompts]
        lengths = [len(self._ids(chat)) for chat in chats]
        completions = [self._too_long(length, max_tokens) for length in lengths]
        fitting = [i for i, length in enumerate(lengths) if length + max_tokens <= self.context]
        for start in range(0, len(fitting), AT_ONCE):
            batch = fitting[start : start + AT_ONCE]
            settings = self._settings(max_tokens, temperature, n, seed, schema)
            outputs = self._generate([chats[i] for i in batch], settings)
            for i, output in zip(batch, outputs, strict=True):
                texts = tuple(output.m_generation_ids)
                counts = [len(self._ids(text)) for text in texts]
                finish = tuple("length" if count >= max_tokens else "stop" for count in counts)
                completions[i] = Completion(texts, lengths[i], sum(counts), finish)
        return completions

    def _too_long(self, length: int, max_tokens: int) -> Completion:
        error = (
            f"the prompt has {length} tokens, {max_tokens} more are asked for, and the context is"
            f" {self.context}"
        )
        return Completion((), length, error=error)

    def _generate(self, chats: list[str], settings: Any) -> list[Any]:
        with _lock:
            try:
                outputs: list[Any] = self._pipeline().generate(chats, [settings] * len(chats))
                return outputs
            except RuntimeError as error:  # a schema that it does not know, above all
                reason = str(error).strip().splitlines()[-1][:SHOWN_CHARACTERS]
                raise ModelError(f"openvino-genai refuses what is asked: {reason}") from error

    def _settings(
        self,
        max_tokens: int,
        temperature: float,
        n: int,
        seed: int,
        schema: Mapping[str, Any] | None,
    ) -> Any:
        if n > 1 and not temperature:
            raise ModelError(
                f"n is {n} at temperature 0: all answers would be the same; set a temperature"
            )
        genai = _genai()
        settings = genai.GenerationConfig()
        settings.max_new_tokens = max_tokens
        settings.num_return_sequences = n
        settings.apply_chat_template = False
        settings.do_sample = temperature > 0
        if temperature > 0:
            settings.temperature = temperature
            settings.rng_seed = seed
        if schema is not None:
            settings.structured_output_config = genai.StructuredOutputConfig(
                json_schema=json.dumps(schema)
            )
        return settings

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Return (n,) log-probabilities of all tokens of each answer.

        The answer follows the prompt as the assistant's words. Raises ModelError for an empty
        answer, and for one that does not fit the context.
        """
        check_texts(prompts, answers)
        pairs = [
            _Pair(self._ids(self._chat(prompt)), self._ids(answer))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        for pair, answer in zip(pairs, answers, strict=True):
            if not pair.answer or len(pair.prompt) + len(pair.answer) >= self.context:
                raise ModelError(
                    f"the answer {answer[:40]!r} has {len(pair.answer)} tokens after a prompt of"
                    f" {len(pair.prompt)}: at least 1, and fewer than {self.context} together"
                )
        scores: list[float] = []
        for start in range(0, len(pairs), AT_ONCE):
            with _lock:
                scores += self._scores(pairs[start : start + AT_ONCE], start)
        return np.array(scores, dtype=np.float64)

    def choices(self, prompts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        """Return (P, L) log-probabilities of each label as the answer to each prompt.

        Where PyTorch and transformers are there, they read each prompt once, in float32 or, at
        "fast" precision, in bfloat16; openvino-genai reads it once for every label.
        """
        if not _reads_labels():
            return super().choices(prompts, labels)
        from tailor.llm.torch_model import TorchModel

        dtype: Literal["float32", "bfloat16"] = (
            "float32" if self.precision == "exact" else "bfloat16"
        )
        reader = TorchModel(self.model, dtype=dtype, system=self.system, context=self.context)
        return reader.choices(prompts, labels)

    def _scores(self, pairs: Sequence[_Pair], first_id: int) -> list[float]:
        import openvino

        pipeline = self._pipeline()
        settings = _genai().GenerationConfig()
        settings.max_new_tokens = 1
        settings.echo = True
        settings.logprobs = 1
        settings.ignore_eos = True
        handles = []
        for request_id, pair in enumerate(pairs, first_id):
            ids = openvino.Tensor(np.array([pair.prompt + pair.answer], dtype=np.int64))
            handles.append(pipeline.add_request(request_id, ids, settings))
        while pipeline.has_non_finished_requests():
            pipeline.step()
        scores = []
        for pair, handle in zip(pairs, handles, strict=True):
            log_probs = list(handle.read_all()[0].generated_log_probs)
            start = len(pair.prompt)
            scores.append(float(sum(log_probs[start : start + len(pair.answer)])))
        return scores

    def _chat(self, prompt: str) -> str:
        """Return a prompt in the model's chat format; marks of roles are broken up."""
        turns = messages(self.system, unmarked(prompt))
        tokenizer = self._pipeline().get_tokenizer()
        text: str = tokenizer.apply_chat_template(turns, add_generation_prompt=True)
        return text

    def _ids(self, text: str) -> list[int]:
        encoded = self._pipeline().get_tokenizer().encode(text, add_special_tokens=False)
        ids: list[int] = encoded.input_ids.data[0].tolist()
        return ids

    def _pipeline(self) -> Any:
        return _loaded(str(self._file()), self.precision)


def _genai() -> Any:
    try:
        import openvino_genai
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "local language models need the package openvino-genai: pip install"
            " 'tailor-engine[llm]'"
        ) from error
    return openvino_genai


@functools.cache
def _reads_labels() -> bool:
    """Return whether the packages that read all labels off one pass are there."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


@functools.cache
def _digest(path: Path) -> str:
    return sha256_of(path)[:20]


_load_lock = threading.Lock()


def _loaded(path: str, precision: str) -> Any:
    with _load_lock:
        return _load(path, precision)


@functools.lru_cache(maxsize=2)
def _load(path: str, precision: str) -> Any:
    genai = _genai()
    settings = genai.SchedulerConfig()
    settings.cache_size = CACHE_GIGABYTES
    is_exact = precision == "exact"
    try:
        file = rewritten(Path(path), "float16" if is_exact else "int8")
        return genai.ContinuousBatchingPipeline(
            str(file), settings, "CPU", EXACT if is_exact else {}
        )
    except RuntimeError as error:
        raise ModelError(
            f"{path} cannot be loaded by openvino-genai: {str(error)[:SHOWN_CHARACTERS]}"
        ) from error
