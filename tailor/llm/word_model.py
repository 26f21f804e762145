"""A small language model over the words of given texts, which knows nothing yet."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailor.core.run import Run
from tailor.data.folders import written_aside
from tailor.errors import MissingExtraError, ModelError
from tailor.llm.torch_model import TorchModel

END, UNKNOWN = "<end>", "<unknown>"


def word_model(
    texts: Sequence[str],
    folder: str | Path,
    *,
    width: int = 64,
    blocks: int = 2,
    heads: int = 4,
    context: int = 512,
    run: Run = Run(),
    overwrite: bool = False,
) -> TorchModel:
    """Write a Llama of random weights into `folder`, and return the model.

    Words and punctuation marks of the texts are its tokens; other words are one and the same token.
    It is for measurements of how to teach a language model, which take seconds with it; `Tuning`
    teaches it. Raises ModelError where there is no text.
    """
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "word models need transformers: pip install 'tailor-engine[text,llm]'"
        ) from error
    splitter: Any = pre_tokenizers.Whitespace()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    if not counts:
        raise ModelError(f"a word model of {len(texts)} texts has no word: give it texts")
    words = [END, UNKNOWN, *sorted(counts)]
    tokenizer: Any = Tokenizer(
        models.WordLevel({word: row for row, word in enumerate(words)}, unk_token=UNKNOWN)
    )
    tokenizer.pre_tokenizer = splitter
    network = _random_llama(len(words), width, blocks, heads, context, run)
    with written_aside(Path(folder), overwrite, ModelError) as aside:
        make_fast: Any = PreTrainedTokenizerFast  # untyped
        fast = make_fast(tokenizer_object=tokenizer, eos_token=END, unk_token=UNKNOWN)
        fast.save_pretrained(aside)
        network.save_pretrained(aside)
    return TorchModel(str(folder), system="", context=context)


def _random_llama(words: int, width: int, blocks: int, heads: int, context: int, run: Run) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        max_position_embeddings=context,
        eos_token_id=0,
        bos_token_id=0,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        return LlamaForCausalLM(shape)
