"""A small language model in this process."""

import functools
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tailor.data.folders import sha256_of
from tailor.errors import MissingExtraError, ModelError
from tailor.llm.chat import check_asked, check_texts, messages, unmarked
from tailor.llm.gguf_files import rewritten
from tailor.ports.base import Completion, LanguageModel
from tailor.ports.weights import KNOWN, where

EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}
AT_ONCE = 64  # prompts handed over together
_lock = threading.Lock()


@dataclass(frozen=True)
class LocalModel(LanguageModel):
    """A GGUF model in this process, by openvino-genai; without a name SmolLM2-135M-Instruct, which
    `tailor models pull smollm2-135m` fetches.

    At "exact" precision scores are those of the file's weights, and depend on nothing else, to
    1e-3; "fast" rounds weights to 8 bits and computes in shorter numbers, so that texts come sooner
    and scores are off by tenths. Such a small model writes fluently and judges poorly: measure
    before you rely on it.
    """

    model: str = "smollm2-135m"
    """A name of `tailor models list`, or the path of a GGUF file."""
    precision: Literal["exact", "fast"] = "exact"
    system: str = "You are a helpful assistant."
    """Said before every prompt."""
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
            return where(self.model) / next(iter(KNOWN[self.model].files))
        path = Path(self.model)
        if path.suffix != ".gguf" or not path.is_file():
            raise ModelError(
                f'model is "{self.model}": it must be a model of `tailor models list` or a GGUF'
                " file that is there"
            )
        return path

    def capabilities(self) -> frozenset[str]:
        return frozenset({"score", "schema", "seed"})

    def tokens(self, text: str) -> int:
        """How many tokens a text has."""
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
        """A prompt that does not fit the context gets an error. With a schema a text that ends with
        "stop" is JSON that meets it.
        """
        check_asked(prompts, max_tokens, temperature, n)
        if images:
            raise ModelError("LocalModel reads no images: use an HTTPModel of a server that does")
        ready = [self._chat(prompt) for prompt in prompts]
        lengths = [len(self._ids(text)) for text in ready]
        out = [
            Completion(
                (),
                length,
                error=(
                    f"the prompt has {length} tokens, {max_tokens} more are asked for, and the"
                    f" context is {self.context}"
                ),
            )
            for length in lengths
        ]
        fitting = [at for at, length in enumerate(lengths) if length + max_tokens <= self.context]
        for start in range(0, len(fitting), AT_ONCE):
            some = fitting[start : start + AT_ONCE]
            settings = [self._settings(max_tokens, temperature, n, seed, schema) for _ in some]
            with _lock:
                try:
                    found = self._pipeline().generate([ready[at] for at in some], settings)
                except RuntimeError as error:  # a schema that it does not know, above all
                    raise ModelError(
                        "openvino-genai refuses what is asked:"
                        f" {str(error).strip().splitlines()[-1][:300]}"
                    ) from error
            for at, one in zip(some, found, strict=True):
                texts = tuple(one.m_generation_ids)
                written = [len(self._ids(text)) for text in texts]
                finish = tuple("length" if count >= max_tokens else "stop" for count in written)
                out[at] = Completion(texts, lengths[at], sum(written), finish)
        return out

    def _settings(
        self,
        max_tokens: int,
        temperature: float,
        n: int,
        seed: int,
        schema: Mapping[str, Any] | None,
    ) -> Any:
        genai = _genai()
        made = genai.GenerationConfig()
        made.max_new_tokens, made.num_return_sequences, made.apply_chat_template = (
            max_tokens,
            n,
            False,
        )
        made.do_sample = temperature > 0
        if temperature > 0:
            made.temperature, made.rng_seed = temperature, seed
        elif n > 1:
            raise ModelError(
                f"n is {n} at temperature 0: all answers would be the same; set a temperature"
            )
        if schema is not None:
            made.structured_output_config = genai.StructuredOutputConfig(
                json_schema=json.dumps(schema)
            )
        return made

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """(n,) log-probability of all tokens of each answer, put after the prompt as the
        assistant's words. Raises ModelError for an empty answer.
        """
        check_texts(prompts, answers)
        import openvino

        genai, pairs = (
            _genai(),
            [
                (self._ids(self._chat(prompt)), self._ids(answer))
                for prompt, answer in zip(prompts, answers, strict=True)
            ],
        )
        for (asked, said), answer in zip(pairs, answers, strict=True):
            if not said or len(asked) + len(said) >= self.context:
                raise ModelError(
                    f"the answer {answer[:40]!r} has {len(said)} tokens after a prompt of"
                    f" {len(asked)}: at least 1, and fewer than {self.context} together"
                )
        out = np.zeros(len(pairs))
        for start in range(0, len(pairs), AT_ONCE):
            with _lock:
                pipeline, handles = self._pipeline(), []
                for at, (asked, said) in enumerate(pairs[start : start + AT_ONCE]):
                    settings = genai.GenerationConfig()
                    (
                        settings.max_new_tokens,
                        settings.echo,
                        settings.logprobs,
                        settings.ignore_eos,
                    ) = (1, True, 1, True)
                    handles.append(
                        pipeline.add_request(
                            start + at,
                            openvino.Tensor(np.array([asked + said], dtype=np.int64)),
                            settings,
                        )
                    )
                while pipeline.has_non_finished_requests():
                    pipeline.step()
                for at, handle in enumerate(handles, start=start):
                    asked, said = pairs[at]
                    values = list(handle.read_all()[0].generated_log_probs)
                    out[at] = sum(values[len(asked) : len(asked) + len(said)])
        return out

    def _chat(self, prompt: str) -> str:
        """The prompt as the model was taught to see it; marks of roles inside it are taken apart."""
        said = messages(self.system, unmarked(prompt))
        text: str = (
            self._pipeline().get_tokenizer().apply_chat_template(said, add_generation_prompt=True)
        )
        return text

    def _ids(self, text: str) -> list[int]:
        found: list[int] = (
            self._pipeline()
            .get_tokenizer()
            .encode(text, add_special_tokens=False)
            .input_ids.data[0]
            .tolist()
        )
        return found

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
    settings.cache_size = 2
    try:
        file = rewritten(Path(path), "float16" if precision == "exact" else "int8")
        return genai.ContinuousBatchingPipeline(
            str(file), settings, "CPU", EXACT if precision == "exact" else {}
        )
    except RuntimeError as error:
        raise ModelError(
            f"{path} cannot be loaded by openvino-genai: {str(error)[:300]}"
        ) from error
