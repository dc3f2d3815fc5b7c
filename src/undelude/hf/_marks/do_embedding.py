"""The input embedding of a model with marked words: that of do(x) is that of x plus an offset."""

import functools
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import nn
from transformers import PreTrainedModel

Kind = Literal["shared", "low_rank", "full"]
# The name of the offset in the input embedding; PEFT trains and saves it if it is one of `modules_to_save`.
OFFSET = "do_offset"


class DoOffset(nn.Module):
    """The embedding of do(x) minus that of x; zero at first.

    Args:
        V: words.
        d: entries of an embedding.
        kind: `"shared"`, one vector for all words; `"low_rank"`, the product of factors `[V, rank]` and `[rank, d]`;
            `"full"`, a vector for each word.
        rank: of `"low_rank"`.
        like: a tensor on the device of the embedding.

    Its parameters are in float32 also if the embedding is not: small steps of an optimiser would be lost in bfloat16.
    """

    def __init__(self, V: int, d: int, kind: Kind, rank: int, like: torch.Tensor):
        super().__init__()
        self.kind: Kind = kind
        # The unit of intervention that the model was taught with, for those who save, measure and serve it.
        self.granularity: Literal["turn", "token"] | None = None
        options: dict[str, Any] = {"dtype": torch.float32, "device": like.device}
        if kind == "low_rank":
            # The first column is 1, so that one vector for all words is among the products.
            left = torch.randn(V, rank, generator=torch.Generator().manual_seed(0)) / rank**0.5
            left[:, 0] = 1
            self.left = nn.Parameter(left.to(**options))
        shape = {"shared": (d,), "low_rank": (rank, d), "full": (V, d)}[kind]
        self.rows = nn.Parameter(torch.zeros(shape, **options))

    def forward(self, x: Int[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n d"] | Float[torch.Tensor, " d"]:
        """Return the offset of each word, or the vector that all words share."""
        if self.kind == "shared":
            return self.rows
        return self.rows[x] if self.kind == "full" else self.left[x] @ self.rows


class MarkedWords(nn.Embedding):
    """The base of the classes that `marked_class` makes: an embedding with the words x and do(x) = x + V."""

    def forward(self, input: Int[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n d"]:
        """Return the embedding of each word."""
        own = input >= self.num_embeddings
        x = torch.where(own, input - self.num_embeddings, input)
        offset = getattr(self, OFFSET)(x) * getattr(self, "embed_scale", 1)
        embedded = super().forward(x)
        return embedded + torch.where(own[..., None], offset, 0).to(embedded.dtype)


@functools.cache
def marked_class(embedding: type[nn.Embedding]) -> type[nn.Embedding]:
    """Return a subclass of an embedding's class that knows marked words.

    The object keeps its parameters under their names, so that tied heads and saved adapters find them.
    """
    return type(f"Do{embedding.__name__}", (MarkedWords, embedding), {})


def embedding_of(model: PreTrainedModel) -> Any:
    """Return the input embedding of a model; the trained one if PEFT holds a copy of it."""
    embedding: Any = model.get_input_embeddings()
    if hasattr(embedding, "modules_to_save"):
        return embedding.modules_to_save[embedding.active_adapters[0]]
    return embedding


def check_embedding(embedding: Any) -> None:
    """Raise if the embedding of do(x) could not be saved as a row of an ordinary one."""
    forward = type(embedding).forward
    if not isinstance(embedding, nn.Embedding) or (
        forward is not nn.Embedding.forward and not hasattr(embedding, "embed_scale")
    ):
        raise ValueError(
            f"DoTokens.wrap: the model's input embedding is {type(embedding).__name__}, which does more than look up a "
            "row for each word. Supported are torch.nn.Embedding, and such with a scale. If it is PEFT's, leave the "
            "embedding out of target_modules; to train it, wrap the model first and name it in modules_to_save."
        )


def offset_of(embedding: Any) -> DoOffset:
    """Return the offset of an embedding, within PEFT's wrapper the one that is trained."""
    offset = getattr(embedding, OFFSET)
    if isinstance(offset, DoOffset):
        return offset
    return offset.modules_to_save[offset.active_adapters[0]]
