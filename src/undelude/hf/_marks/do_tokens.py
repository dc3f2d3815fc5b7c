"""Own words as symbols of their own: do(x) = x + V (Remark 14)."""

import contextlib
import copy
import functools
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging
from transformers.utils.hub import cached_file

from undelude.hf._marks.do_embedding import (
    OFFSET,
    DoOffset,
    Kind,
    MarkedWords,
    check_embedding,
    embedding_of,
    marked_class,
    offset_of,
)
from undelude.hf._marks.exporting import Doubled, copied, doubled, generation_by, plain_generation
from undelude.hf._marks.folders import check_folder

Granularity = Literal["turn", "token"]
# In a saved folder, beside the files of Transformers: the offset, bit for bit, to go on training.
OFFSET_FILE = "do_offset.safetensors"
# In the configuration of an exported model.
CONFIG_KEY = "do_tokens"
# Beside an adapter of PEFT, whose files do not say how the marks were taught.
GRANULARITY_FILE = "do_tokens.json"
# Methods of a model that `wrap` replaces.
_REPLACED = ("save_pretrained", "resize_token_embeddings")


class DoTokens:
    """The marked words of a Hugging Face model.

    With V words, do(x) has the id `x + V`; its embedding is that of x plus a learned offset. The head keeps its V
    words. `DoTokens.wrap(model)` marks a model, and `DoTokens.of(model)` finds the marks of one, also within PEFT's and
    Accelerate's wrappers, and of an exported model that was loaded.

    Attributes:
        model: the model of Transformers.
        vocab_size: V.
        kind: of the offset: `"shared"`, `"low_rank"` or `"full"`.
        is_exported: whether the model is an ordinary one with 2V words.
    """

    def __init__(
        self, model: PreTrainedModel, vocab_size: int, kind: Kind, *, is_exported: bool = False, adapted: Any = None
    ):
        self.model = model
        # PEFT's model around it, if there is one.
        self._adapted = adapted
        self.vocab_size = vocab_size
        self.kind: Kind = kind
        self.is_exported = is_exported

    @staticmethod
    def wrap(model: Any, kind: Kind = "shared", *, rank: int = 8) -> Any:
        """Give a model the words do(x) = x + V, and return the same model.

        At first the offset is 0, and the model's outputs are what they were, bit for bit. `save_pretrained`,
        `model.push_to_hub` and `Trainer.save_model` then save the exported model, see `export`.

        Args:
            model: a causal language model, or one of PEFT, whose adapters then train and save the offset. To use PEFT
                later, call `get_peft_model(model, LoraConfig(..., modules_to_save=["do_offset"]))`: PEFT freezes what
                is not named.
            kind: of the offset: `"shared"`, one vector; `"low_rank"`, a product of factors; `"full"`, a vector for each
                word.
            rank: of the factors.

        Raises:
            ValueError: an unknown kind; the model is wrapped in another way, or exported; its embedding does more than
                look up rows, or PEFT adapts it.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"DoTokens.wrap: kind must be one of {', '.join(get_args(Kind))}, not {kind!r}.")
        there = DoTokens.of(model)
        if there is not None:
            if there.is_exported:
                raise ValueError(
                    "DoTokens.wrap: the model is an exported one and has the marked words as rows. To go on training, "
                    "load its folder with DoTokens.load."
                )
            if there.kind != kind:
                raise ValueError(f"DoTokens.wrap: the model has marks of kind {there.kind!r} already, not {kind!r}.")
            return model
        inner, _ = _within(model)
        embedding = inner.get_input_embeddings()
        check_embedding(embedding)
        V, d = embedding.weight.shape
        embedding.add_module(OFFSET, DoOffset(V, d, kind, rank, embedding.weight))
        embedding.__class__ = marked_class(type(embedding))
        # Attributes of the object, because the class gives its name to the saved configuration.
        inner.save_pretrained = functools.partial(_save_pretrained, inner)
        inner.resize_token_embeddings = functools.partial(_resize_token_embeddings, inner)
        if hasattr(model, "peft_config"):
            _add_to_adapters(model)
        return model

    @staticmethod
    def of(model: Any) -> "DoTokens | None":
        """Return the marks of a model, or None if it has none."""
        inner, adapted = _within(model)
        if inner is None:
            return None
        embedding = embedding_of(inner)
        if isinstance(embedding, MarkedWords):
            return DoTokens(inner, embedding.num_embeddings, offset_of(embedding).kind, adapted=adapted)
        if any(isinstance(x, MarkedWords) for x in embedding.modules()):
            raise ValueError(
                f"DoTokens.of: an adapter ({type(embedding).__name__}) reads the ids in place of the model's input "
                "embedding, and does not know marked words. Leave the input embedding out of target_modules; to train "
                "it, name it in modules_to_save."
            )
        info = getattr(inner.config, CONFIG_KEY, None)
        if info is None:
            return None
        return DoTokens(inner, info["vocab_size"], info["kind"], is_exported=True, adapted=adapted)

    def mark(self, ids: Int[torch.Tensor, "*n"], own: Bool[torch.Tensor, "*n"]) -> Int[torch.Tensor, "*n"]:
        """Return the ids with do(x) in place of x where the model itself wrote x.

        Raises:
            ValueError: an id is not of a plain word: it is marked already, or the tokenizer has more words than the
                model.
        """
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocab_size:
            raise ValueError(
                f"DoTokens.mark: ids are from {int(ids.min())} to {int(ids.max())}, and the model's plain words from 0 "
                f"to {self.vocab_size - 1}. Are they marked already, or has the tokenizer more words than the model?"
            )
        return torch.where(own, ids + self.vocab_size, ids)

    def plain(self, ids: Int[torch.Tensor, "*n"]) -> Int[torch.Tensor, "*n"]:
        """Return x for do(x), to decode it."""
        return ids % self.vocab_size

    @property
    def granularity(self) -> Granularity | None:
        """The unit of intervention that the model was taught with, a `"turn"` or a `"token"`; None if nobody said."""
        if self.is_exported:
            return getattr(self.model.config, CONFIG_KEY).get("granularity")
        return offset_of(embedding_of(self.model)).granularity

    @granularity.setter
    def granularity(self, granularity: Granularity | None) -> None:
        if self.is_exported:
            getattr(self.model.config, CONFIG_KEY)["granularity"] = granularity
        else:
            offset_of(embedding_of(self.model)).granularity = granularity

    def offsets(self) -> Float[torch.Tensor, "V d"]:
        """Return the embedding of do(x) minus that of x, for each word."""
        embedding = embedding_of(self.model)
        weight = embedding.weight.detach()
        if self.is_exported:
            return weight[self.vocab_size :] - weight[: self.vocab_size]
        words = torch.arange(self.vocab_size, device=weight.device)
        with torch.no_grad():
            return getattr(embedding, OFFSET)(words).expand(weight.shape).to(weight.dtype)

    def export(self, granularity: Granularity | None = None) -> PreTrainedModel:
        """Return an ordinary model with 2V words, whose second half are the marked ones. The model stays as it is.

        The rows of do(x) are those of x plus the offset. The head gives do(x) the logit of x. A tied head stays tied if
        the offset is shared, which adds the same number to the logits of all marked words; it becomes a table of its
        own with other offsets, and in a model that caps its logits, such as Gemma 2. PEFT's adapters are merged.

        `generate()` of the result writes words of one half, by its `generation_config.suppress_tokens`: plain words, to
        be marked when the turn is over (`"turn"`), or marked ones (`"token"`). A server that ignores this setting needs
        `DoLogitsProcessor`.

        Args:
            granularity: whether a turn is one action, or each word; by default, as the model was taught, or `"turn"`.
        """
        granularity = granularity or self.granularity or "turn"
        self._warn_if_frozen()
        model, V = copied(self.model, self._adapted, _REPLACED), self.vocab_size
        if not self.is_exported:
            found = doubled(model, model.state_dict())
            self._settle(model.config, found)
            embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
            embedding.__class__ = type(embedding).__mro__[2]
            delattr(embedding, OFFSET)
            if found.was_tied and not found.is_tied:
                head.weight = nn.Parameter(head.weight.detach().clone())
                model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
            model.resize_token_embeddings(2 * V, mean_resizing=False)
            model.load_state_dict(found.weights)
        getattr(model.config, CONFIG_KEY)["granularity"] = granularity
        model.generation_config = generation_by(model.generation_config, V, granularity)
        return model

    def save(
        self,
        folder: str | Path,
        granularity: Granularity | None = None,
        *,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        **options: Any,
    ) -> None:
        """Save the exported model; `AutoModelForCausalLM.from_pretrained` loads it, and `DoTokens.load`.

        It takes no memory of the model's device. With adapters of PEFT, it takes that of a whole model on the CPU, into
        which they are merged.

        Args:
            folder: is made if it does not exist.
            granularity: see `export`.
            state_dict: the model's weights, if they were gathered because the model is sharded.
            options: of `save_pretrained`.

        Raises:
            ValueError: `state_dict` lacks the embedding, or is given for a model with adapters.
        """
        granularity = granularity or self.granularity or "turn"
        self._warn_if_frozen()
        if self._adapted is not None:
            if state_dict is not None:
                raise ValueError("DoTokens.save: a state_dict cannot be merged with adapters. Save the adapter alone.")
            merged = DoTokens.of(copied(self.model, self._adapted, _REPLACED, torch.device("cpu")))
            assert merged is not None
            return merged.save(folder, granularity, **options)
        model, offset = self.model, None
        config = copy.deepcopy(model.config)
        weights = model.state_dict() if state_dict is None else dict(state_dict)
        if not self.is_exported:
            found = doubled(model, weights)
            weights, offset = found.weights, found.offset
            self._settle(config, found)
        getattr(config, CONFIG_KEY)["granularity"] = granularity
        kept = model.config, model.generation_config
        try:
            model.config = config
            model.generation_config = generation_by(model.generation_config, self.vocab_size, granularity)
            with _without_bars():
                type(model).save_pretrained(model, folder, state_dict=weights, **options)
        finally:
            model.config, model.generation_config = kept
        if offset is not None and options.get("is_main_process", True):
            save_file(offset, Path(folder) / OFFSET_FILE)

    def _settle(self, config: Any, found: Doubled) -> None:
        """Change the configuration of a wrapped model into that of the exported one."""
        config.get_text_config().vocab_size = 2 * self.vocab_size
        if found.was_tied and not found.is_tied:
            config.tie_word_embeddings = False
        rank = found.offset["left"].shape[1] if "left" in found.offset else 1
        info = {"vocab_size": self.vocab_size, "kind": self.kind, "rank": rank, "is_tied": found.was_tied}
        setattr(config, CONFIG_KEY, info)

    def _warn_if_frozen(self) -> None:
        """Warn if PEFT has frozen the offset before it was trained."""
        if self.is_exported or self._adapted is None:
            return
        offset = offset_of(embedding_of(self.model))
        if not any(x.requires_grad for x in offset.parameters()) and not offset.rows.any():
            warnings.warn(
                "The marks are frozen and 0, so that do(x) is x: PEFT trains only what it is told. Call "
                'get_peft_model(model, LoraConfig(..., modules_to_save=["do_offset"])), or DoTokens.wrap(peft_model).',
                UserWarning,
                stacklevel=3,
            )

    @staticmethod
    def load(folder: str | Path, **options: Any) -> Any:
        """Return a saved model as it was before it was exported, to go on training.

        Args:
            folder: of `save`, `save_pretrained` or `Trainer.save_model`, or the name of a repository on the Hub.
            options: of `AutoModelForCausalLM.from_pretrained`.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: the folder holds a model without marked words.
        """
        check_folder(folder, "DoTokens.load")
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, **options)
        except OSError as error:
            if Path(folder).exists():
                raise
            raise FileNotFoundError(
                f"DoTokens.load: there is no folder {os.fspath(folder)!r} in {Path.cwd()}, and the Hub gave no model "
                f"of this name: {str(error).splitlines()[0]}"
            ) from error
        info = getattr(model.config, CONFIG_KEY, None)
        if info is None:
            raise ValueError(f"DoTokens.load: the model in {folder} has no marks. Load it with AutoModelForCausalLM.")
        hub = {name: options[name] for name in ("cache_dir", "revision", "subfolder", "token") if name in options}
        file = cached_file(folder, OFFSET_FILE, _raise_exceptions_for_missing_entries=False, **hub)
        if file is None:
            raise ValueError(f"DoTokens.load: {folder} lacks {OFFSET_FILE}, which holds the offset.")
        model.resize_token_embeddings(info["vocab_size"], mean_resizing=False)
        delattr(model.config, CONFIG_KEY)
        if info["is_tied"] and not model.config.tie_word_embeddings:
            model.config.tie_word_embeddings = True
            model.tie_weights()
        if model.generation_config is not None:
            model.generation_config = plain_generation(model.generation_config, info["vocab_size"])
        DoTokens.wrap(model, info["kind"], rank=info["rank"])
        offset = offset_of(model.get_input_embeddings())
        offset.load_state_dict(load_file(file))
        offset.granularity = info.get("granularity")
        return model


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Show no progress bar of Transformers."""
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def context(model: Any) -> int:
    """Return the most tokens that a model can read."""
    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(config, "max_position_embeddings", None) or 10**9


def num_words(model: Any) -> int | None:
    """Return V, the number of words of a model, marked or not; None if it has no table of words."""
    marks = DoTokens.of(model)
    if marks is not None:
        return marks.vocab_size
    table = getattr(model, "get_input_embeddings", lambda: None)()
    # Not of the weight, of which DeepSpeed may keep a part here.
    num = getattr(table, "num_embeddings", None)
    weight = getattr(table, "weight", None)
    return num if num is not None or weight is None else int(weight.shape[0])


def save_granularity(model: Any, folder: str | Path) -> None:
    """Write the unit of intervention that a model was taught with beside its adapter."""
    marks = DoTokens.of(model)
    assert marks is not None
    (Path(folder) / GRANULARITY_FILE).write_text(json.dumps({"granularity": marks.granularity}), encoding="utf-8")


def load_granularity(model: Any, folder: str | Path) -> None:
    """Set the unit of intervention of a model with an adapter, if its folder says it.

    Raises:
        ValueError: the file is damaged.
    """
    marks, file = DoTokens.of(model), Path(folder) / GRANULARITY_FILE
    assert marks is not None
    if not file.is_file():
        return
    granularity: Any = ""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        granularity = json.loads(file.read_text(encoding="utf-8"))["granularity"]
    if granularity not in (None, *get_args(Granularity)):
        raise ValueError(f'{file} is damaged: granularity must be "turn" or "token". Restore or remove the file.')
    marks.granularity = granularity


def load_offset(model: Any, folder: str | Path) -> None:
    """Set the offset of a wrapped model to that of a saved folder, to resume a training."""
    marks = DoTokens.of(model)
    if marks is None or marks.is_exported:
        raise ValueError("load_offset: the model has no offset; wrap it with DoTokens.wrap.")
    offset_of(embedding_of(marks.model)).load_state_dict(load_file(Path(folder) / OFFSET_FILE))


def _within(model: Any) -> tuple[Any, Any]:
    """Return the model of Transformers within wrappers, and PEFT's model around it; None if there is none."""
    modules: list[Any] = list(model.modules()) if isinstance(model, nn.Module) else []
    inner = next((x for x in modules if isinstance(x, PreTrainedModel)), None)
    adapted = next((x for x in modules if hasattr(x, "merge_and_unload")), None)
    return (inner if adapted is None else adapted.get_base_model()), adapted


def _add_to_adapters(model: Any) -> None:
    """Let the adapters of PEFT's model train and save the offset."""
    from peft.utils import set_additional_trainable_modules

    for name, config in model.peft_config.items():
        # Only the offset: other modules that the adapter saves may be trained already, and would be reset.
        only = copy.copy(config)
        only.modules_to_save, only.modules_to_tie, only.trainable_token_indices = [OFFSET], None, None
        set_additional_trainable_modules(model, only, {}, name, activate_adapter=name in model.active_adapters)
        config.modules_to_save = [*(config.modules_to_save or ()), OFFSET]


def _save_pretrained(model: PreTrainedModel, save_directory: str | Path, **options: Any) -> None:
    """Save the exported model in place of a wrapped one, which no stock class could load."""
    marks = DoTokens.of(model)
    assert marks is not None
    marks.save(save_directory, **options)


def _resize_token_embeddings(
    model: PreTrainedModel, new_num_tokens: int | None = None, *args: Any, **options: Any
) -> Any:
    """Raise if the number of words would change: x + V would be another word."""
    V = embedding_of(model).num_embeddings
    if new_num_tokens not in (None, V):
        raise ValueError(
            f"The model has marked words x + {V}, and cannot get {new_num_tokens} words in place of {V}. Call "
            "resize_token_embeddings before DoTokens.wrap."
        )
    return type(model).resize_token_embeddings(model, new_num_tokens, *args, **options)
