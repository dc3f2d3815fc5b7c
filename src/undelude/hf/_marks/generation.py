"""The words of a model's next turn, of one half of its words or the other."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from transformers import GenerationConfig, LogitsProcessorList

from undelude.hf._marks.do_tokens import DoTokens, Granularity


class DoLogitsProcessor:
    """Restricts generation to the marked words do(x) = x + V, or to the plain ones.

    For `generate(logits_processor=...)`, and for servers that call `f(ids, logits)` before they sample.

    Args:
        vocab_size: V.
        granularity: by `"token"`, marked words are written; by `"turn"`, plain ones, marked when the turn is over.
    """

    def __init__(self, vocab_size: int, granularity: Granularity = "turn"):
        self.vocab_size, self.granularity = vocab_size, granularity

    def __call__(self, input_ids: Any, scores: Float[torch.Tensor, "*B W"]) -> Float[torch.Tensor, "*B U"]:
        """Return the scores with -inf for the words of the other half.

        Args:
            input_ids: unused.
            scores: of the V plain words of a wrapped model, which are those of the marked ones too, or of all 2V.
        """
        del input_ids
        V, is_wrapped = self.vocab_size, scores.shape[-1] == self.vocab_size
        if not is_wrapped and scores.shape[-1] != 2 * V:
            raise ValueError(
                f"DoLogitsProcessor: the scores are of {scores.shape[-1]} words, and not of {V} or {2 * V}."
            )
        if is_wrapped:
            return scores if self.granularity == "turn" else nn.functional.pad(scores, (V, 0), value=-torch.inf)
        scores = scores.clone()
        scores[..., slice(V, None) if self.granularity == "turn" else slice(V)] = -torch.inf
        return scores


def inverse_cdf(probs: Float[torch.Tensor, "B W"], u: Float[torch.Tensor, "B 1"]) -> Int[torch.Tensor, "B 1"]:
    """Return the first word of each row at which the cumulative probability exceeds the share `u` of the total.

    No word of probability 0 is chosen, even if rounding makes `u` 1.
    """
    cumulative = probs.cumsum(-1)
    total = cumulative[:, -1:]
    last = (cumulative < total).sum(-1, keepdim=True)
    return torch.minimum((cumulative <= u * total).sum(-1, keepdim=True), last)


class _Sampled:
    """Leaves only one word, sampled from the softmax of the scores.

    Args:
        temperature: of the softmax.
        uniforms: numbers in (0, 1) that choose the words by the inverse of the cumulative distribution; None draws.
        length: of the histories.
    """

    def __init__(self, temperature: float, uniforms: Float[torch.Tensor, "B L"] | None, length: int):
        self.temperature, self.uniforms, self.length = temperature, uniforms, length

    def __call__(self, input_ids: Int[torch.Tensor, "B T"], scores: Float[torch.Tensor, "B W"]) -> torch.Tensor:
        """Return the scores with -inf for all other words."""
        if self.uniforms is None:
            word = torch.multinomial(torch.softmax(scores / self.temperature, -1), 1)
        else:
            # Apple's GPUs have no float64.
            kind = torch.float32 if scores.device.type == "mps" else torch.float64
            u = self.uniforms[:, input_ids.shape[1] - self.length, None].to(kind).to(scores.device)
            word = inverse_cdf(torch.softmax(scores.to(kind) / self.temperature, -1), u)
        return torch.full_like(scores, -torch.inf).scatter(-1, word, 0.0)


@torch.no_grad()
def generate_turn(
    model: Any,
    input_ids: Int[torch.Tensor, "B T"],
    attention_mask: Bool[torch.Tensor, "B T"] | Int[torch.Tensor, "B T"],
    *,
    eos_token_id: int | Sequence[int],
    max_new_tokens: int,
    granularity: Granularity = "turn",
    temperature: float = 1.0,
    uniforms: Float[torch.Tensor, "B L"] | None = None,
    pad_token_id: int | None = None,
) -> Int[torch.Tensor, "B N"]:
    """Return the plain words of the next turn, after histories in which own words are marked.

    Words are sampled from `softmax(logits / temperature)`. The model's own generation settings, such as top-k, top-p,
    penalties and suppressed words, are not used: they would make it the sample of another distribution.

    Args:
        model: wrapped by `DoTokens.wrap`, exported, or without marks.
        input_ids: histories, padded on the left.
        attention_mask: 0 for padding.
        eos_token_id: the plain words that end a turn.
        max_new_tokens: L, the most words.
        granularity: by `"turn"`, the words of the turn are plain while it is written; by `"token"`, each is marked as
            soon as it is written. Without marks the two are the same.
        temperature: of the sampling; 0 takes the likeliest words.
        uniforms: numbers in (0, 1) that choose the words, so that those of a row depend on no other row.
        pad_token_id: stands after a turn that is over; by default the first of `eos_token_id`.

    Returns:
        Plain words, with the one that ends the turn, and padding after it.

    Raises:
        ValueError: no word ends a turn, or one that does is not among the plain words.
    """
    ends = [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id or ())
    marks = DoTokens.of(model)
    V = _num_words(model) if marks is None else marks.vocab_size
    if not ends or not all(0 <= x < V for x in ends):
        raise ValueError(
            f"generate_turn: eos_token_id must name words that end a turn, from 0 to {V - 1}, not {eos_token_id}. "
            "Without an end among the words that may be written, no turn would be over."
        )
    by_token = marks is not None and granularity == "token"
    processors: list[Any] = [] if marks is None else [DoLogitsProcessor(V, granularity)]
    if temperature > 0:
        sampled = _Sampled(temperature, uniforms, input_ids.shape[1])
        # A wrapped model's word is sampled among V, before there are 2V.
        processors.insert(len(processors) if marks is None or marks.is_exported else 0, sampled)
    pad = ends[0] if pad_token_id is None else pad_token_id
    config = GenerationConfig(
        do_sample=False,  # The processors leave one word.
        max_new_tokens=max_new_tokens,
        eos_token_id=[x + V for x in ends] if by_token else ends,
        pad_token_id=pad,
        use_cache=True,
    )
    with _generating(model):
        written = model.generate(
            input_ids,
            attention_mask=attention_mask,
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
        )
    words = written[:, input_ids.shape[1] :]
    return words % V if marks is not None else words


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluate a model, without dropout, and leave it in the mode in which it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextlib.contextmanager
def _generating(model: Any) -> Iterator[None]:
    """Evaluate a model, without dropout and without its own generation settings, which replace missing ones."""
    # The models within PEFT's have settings too.
    own = [(x, x.generation_config) for x in model.modules() if "generation_config" in vars(x)]
    for x, _ in own:
        x.generation_config = GenerationConfig()
    # `generate` leaves out a mask of ones, and then asks for one if the model has written the padding word.
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(_asks_for_no_mask)
    try:
        with evaluating(model):
            yield
    finally:
        logger.removeFilter(_asks_for_no_mask)
        for x, config in own:
            x.generation_config = config


def _asks_for_no_mask(record: logging.LogRecord) -> bool:
    return "recommend passing in an `attention_mask`" not in record.getMessage()


def _num_words(model: Any) -> int:
    return model.get_input_embeddings().num_embeddings
