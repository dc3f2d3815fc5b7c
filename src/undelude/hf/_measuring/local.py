"""A model of Hugging Face as a speaker: exact probabilities of its answers."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from undelude.hf._marks.chat import check_end_of_turn, check_length, encode_chat, is_own
from undelude.hf._marks.do_embedding import OFFSET
from undelude.hf._marks.do_tokens import DoTokens, Granularity, context, load_granularity, num_words
from undelude.hf._marks.generation import evaluating, generate_turn
from undelude.hf._marks.pieces import ChatPieces
from undelude.hf._measuring.estimates import Answers
from undelude.hf._measuring.speakers import Request, merge_users
from undelude.hf._menu.menu_dialogue import Messages

# Sequences of a forward pass, and tokens of a sampled utterance.
BATCH_SIZE, MAX_TOKENS = 64, 32


def load_model(folder: str | os.PathLike[str]) -> tuple[Any, Any]:
    """Return the model and the tokenizer in a folder; nothing is downloaded, and no code in the folder is run.

    An adapter of PEFT with marked words, such as a checkpoint, is loaded with its base model.

    Raises:
        ValueError: the base model of the adapter could not be loaded, or a file beside the adapter is damaged; the
            folder has an adapter and no tokenizer; or it needs code of its own.
    """
    if (Path(folder) / "adapter_config.json").is_file() and not (Path(folder) / "tokenizer_config.json").is_file():
        parent = Path(folder).resolve().parent
        way_out = "the folder of trainer.save_model(), which has the adapter and the marked words merged"
        way_out = f"{parent}, into which it is merged" if (parent / "config.json").is_file() else way_out
        raise ValueError(f"{folder} is an adapter of PEFT without a tokenizer. Measure {way_out}.")
    tokenizer = _load(AutoTokenizer, folder)
    file = Path(folder) / "adapter_config.json"
    adapter = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if OFFSET in (adapter.get("modules_to_save") or ()):
        return _load_adapter(Path(folder), adapter["base_model_name_or_path"]), tokenizer
    return _load(AutoModelForCausalLM, folder), tokenizer


class _OwnCodeError(ValueError):
    """A folder that needs code of its own."""


def _load(kind: Any, folder: str | os.PathLike[str]) -> Any:
    """Return what `kind` loads from a folder on this computer, without running code of the folder."""
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise _OwnCodeError(
            f"{folder} has code of its own (auto_map in its configuration), which is not run. If you trust it, load "
            "model and tokenizer by yourself with trust_remote_code=True, and give them to measure_delusion or "
            "local_agent."
        ) from error


def _load_adapter(folder: Path, base: str | None) -> Any:
    """Return the base model with marked words and with an adapter, which holds the offset."""
    from peft import PeftModel

    try:
        model = _load(AutoModelForCausalLM, base or "")
    except _OwnCodeError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} has an adapter, and its base model {base!r} is not on this computer. Load the base model, or "
            "name the folder of trainer.save_model(), which has the adapter and the marked words merged."
        ) from error
    tensors = load_file(folder / "adapter_model.safetensors")
    shapes = {name.rsplit(".", 1)[-1]: x.shape for name, x in tensors.items() if OFFSET in name}
    if "left" in shapes:
        DoTokens.wrap(model, "low_rank", rank=shapes["left"][1])
    else:
        DoTokens.wrap(model, "shared" if len(shapes["rows"]) == 1 else "full")
    adapted = PeftModel.from_pretrained(model, folder, local_files_only=True)
    load_granularity(adapted, folder)
    return adapted


def answer_log_probs(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Messages],
    answers: Sequence[Sequence[str]],
    *,
    granularity: Granularity | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[Float[np.ndarray, " K"]]:
    """Return the log-probabilities, in nats, of some answers as the model's next turn in each conversation.

    `log P(answer | history) = sum of log P(word | history, words before it)` over the words of the answer and the end
    of the turn. Own words of the history are marked if the model has marks.

    Args:
        model: a causal language model, with `DoTokens` or without.
        tokenizer: with a chat template.
        conversations: chats, each with a message of others at its end; a message of the assistant is the model's own
            unless its `author` is another.
        answers: the texts for each conversation.
        granularity: by `"turn"`, the words of an answer are plain; by `"token"`, each is marked. By default, as the
            model was taught, and by turn if it does not say.
        chat_template_kwargs: further arguments of the chat template, such as `{"enable_thinking": False}`.

    Raises:
        ValueError: there are more or fewer lists of answers than conversations.

    >>> answer_log_probs(model, tokenizer, [[{"role": "user", "content": "Is fire hot?"}]], [["Yes.", "No."]])
    ... # doctest: +SKIP
    """
    if len(conversations) != len(answers):
        raise ValueError(f"answer_log_probs: {len(conversations)} conversations and {len(answers)} lists of answers.")
    options = {"granularity": granularity, "chat_template_kwargs": chat_template_kwargs}
    return LocalSpeaker(model, tokenizer, num_samples=1, **options).log_probs(conversations, answers)


def _name(model: Any) -> str:
    """Return what to call a model that has no name."""
    adapted = hasattr(model, "get_base_model")
    kind = type(model.get_base_model() if adapted else model).__name__
    return f"{kind} in memory" + (", with an adapter" if adapted else "")


class LocalSpeaker:
    """A causal language model with its tokenizer.

    The probability of an answer is that of all its words and of the end of the turn. With marks (`DoTokens`), the
    model's own words are marked, and those of other authors in the assistant's slot are not.

    Args:
        model: of Hugging Face, wrapped by `DoTokens.wrap`, exported, or without marks.
        tokenizer: with a chat template.
        num_samples: of an utterance for which no texts are given.
        seed: of the samples.
        granularity: of the marks; by `"turn"`, the words of an utterance see each other unmarked while it is said. By
            default, that by which the model was taught, and `"turn"` if it does not say.
        chat_template_kwargs: further arguments of the chat template.

    Raises:
        TypeError: the model is not one.
        ValueError: an unknown granularity; the chat template does not end a turn with the tokenizer's `eos_token`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        num_samples: int,
        seed: int = 0,
        granularity: Granularity | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ):
        if granularity not in (None, *get_args(Granularity)):
            raise ValueError(f'granularity must be "turn", "token" or None, not {granularity!r}.')
        if not hasattr(model, "get_input_embeddings"):
            swapped = hasattr(tokenizer, "get_input_embeddings")
            way_out = "the model and the tokenizer are swapped." if swapped else "load it before."
            raise TypeError(f"model must be a model, not {type(model).__name__}: {way_out}")
        self.model, self.tokenizer, self.num_samples = model, tokenizer, num_samples
        self.marks = DoTokens.of(model)
        self.granularity: Granularity = granularity or getattr(self.marks, "granularity", None) or "turn"
        check_end_of_turn(tokenizer, chat_template_kwargs)
        self._template = chat_template_kwargs
        self.reads_authors, self.has_sampled_utterances = self.marks is not None, False
        self.name = getattr(model.config, "name_or_path", "") or _name(model)
        self._seed = seed
        self._known: dict[Any, Answers] = {}
        # How often each request was sampled.
        self._sampled = Counter[Any]()
        # Texts of which the tokenizer does not know a part.
        self._unknown: dict[str, None] = {}
        others = {getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad")}
        unknown = getattr(tokenizer, "unk_token_id", None)
        # A tokenizer that knows all bytes, such as GPT-2's, may give it the id of another special token.
        self._unknown_id = None if unknown in others else unknown
        vocab_size = num_words(model)
        self._pieces = ChatPieces(tokenizer, vocab_size=vocab_size, chat_template_kwargs=chat_template_kwargs)

    @property
    def notes(self) -> dict[str, str]:
        """What to know about the answers, by name."""
        if not self._unknown:
            return {}
        texts = sorted(self._unknown, key=len)
        shown = ", ".join(f"{text!r:.60}" for text in texts[:3]) + (", ..." if len(texts) > 3 else "")
        return {
            "tokenizer": f"the tokenizer does not know a part of {len(texts)} texts that the model reads, and writes "
            f"{self.tokenizer.unk_token} for it: {shown}. Take texts that it knows: of a menu, the dishes, prompt "
            "and probe."
        }

    def answer(self, requests: Sequence[Request]) -> list[Answers]:
        """Return the distribution of the next message of each conversation."""
        new = {x.key: x for x in requests if x.answers is not None and x.key not in self._known}
        self._score(list(new.values()))
        return [self._known[x.key] if x.answers is not None else self._sample(x) for x in requests]

    def _encode(self, messages: Sequence[Any], *, prompt: bool) -> Any:
        vocab_size = num_words(self.model)
        options = {"mark": self.marks is not None, "add_generation_prompt": prompt, "vocab_size": vocab_size}
        return encode_chat(messages, self.tokenizer, **options, chat_template_kwargs=self._template)

    def _score(self, requests: Sequence[Request]) -> None:
        """Compute the probabilities of the answers of several requests."""
        found = self.log_probs([x.messages for x in requests], [x.answers or () for x in requests])
        self._known |= {x.key: Answers.from_log_probs(y) for x, y in zip(requests, found, strict=True)}

    def log_probs(
        self, conversations: Sequence[Messages], answers: Sequence[Sequence[str]]
    ) -> list[Float[np.ndarray, " K"]]:
        """Return the log-probability of each answer as the next turn of its conversation, with the end of the turn."""
        sequences, prefixes, owners = [], [], []
        longest = context(self.model)
        for c, conversation in enumerate(conversations):
            messages, known = merge_users(conversation), dict[tuple[int, ...], str]()
            for answer in answers[c]:
                ids, begin = self._with_answer(messages, answer)
                check_length(len(ids), longest, "A conversation with an answer or utterance")
                same = known.setdefault(tuple(ids), answer)
                if same != answer:
                    words = self.tokenizer.convert_ids_to_tokens(
                        [x % (num_words(self.model) or 10**9) for x in ids[begin:]]
                    )
                    raise ValueError(
                        f"{same!r} and {answer!r} are the same tokens to the tokenizer, {' '.join(words)}, so that the "
                        "model cannot tell them apart. Leave one of them out, or name others."
                    )
                sequences.append(ids)
                prefixes.append(begin)
                owners.append(c)
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        scores = dict[int, float]()
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            scores |= zip(
                batch, self._log_probs([sequences[i] for i in batch], [prefixes[i] for i in batch]), strict=True
            )
        found: list[list[float]] = [[] for _ in conversations]
        for i, c in enumerate(owners):
            found[c].append(scores[i])
        return [np.array(x) for x in found]

    def _with_answer(self, messages: Messages, answer: str) -> tuple[list[int], int]:
        """Return the ids of a chat with an answer, up to the end of its turn, and where the answer begins."""
        chat = [*messages, {"role": "assistant", "content": answer, "author": "self"}]
        ids, is_content, message = self._pieces.encode(chat)
        if self._unknown_id is not None and self._unknown_id in ids:
            places = {message[t] for t, x in enumerate(ids) if x == self._unknown_id}
            self._unknown |= dict.fromkeys(str(chat[i].get("content")) for i in sorted(places))
        n = len(messages)
        said = [t for t, (i, is_said) in enumerate(zip(message, is_content, strict=True)) if is_said and i == n]
        begin, end = said[0], said[-1] + 1
        if self.marks is not None:
            V, own = self.marks.vocab_size, {i for i, m in enumerate(chat) if is_own(m)}
            if self.granularity == "turn":
                own.remove(n)
            ids = [x + V if is_said and i in own else x for x, i, is_said in zip(ids, message, is_content, strict=True)]
        return ids[:end], begin

    @torch.no_grad()
    def _log_probs(self, sequences: list[list[int]], prefixes: list[int]) -> list[float]:
        """Return the log-probability of each sequence after its prefix."""
        with evaluating(self.model):
            return self._predict(sequences, prefixes)

    def _predict(self, sequences: list[list[int]], prefixes: list[int]) -> list[float]:
        device = self.model.get_input_embeddings().weight.device
        ids = pad_sequence([torch.tensor(x) for x in sequences], batch_first=True).to(device)
        lengths = torch.tensor([len(x) for x in sequences], device=device)
        places = torch.arange(ids.shape[1], device=device)
        mask = places < lengths[:, None]
        logits = self.model(input_ids=ids, attention_mask=mask.long()).logits[:, :-1].float()
        targets = ids[:, 1:]
        if self.marks is not None:
            V = self.marks.vocab_size
            targets = targets % V
            if logits.shape[-1] == 2 * V:  # An exported model: its own words are of one half.
                logits = logits[..., :V] if self.granularity == "turn" else logits[..., V:]
        log_p = torch.log_softmax(logits, -1).gather(-1, targets[..., None])[..., 0]
        is_answer = mask[:, 1:] & (places[1:] >= torch.tensor(prefixes, device=device)[:, None])
        return torch.where(is_answer, log_p, 0.0).cpu().double().sum(-1).tolist()

    def _sample(self, request: Request) -> Answers:
        """Return samples of the next message."""
        self.has_sampled_utterances = True
        chat = self._encode(merge_users(request.messages), prompt=True)
        check_length(len(chat.input_ids) + MAX_TOKENS, context(self.model), "A conversation with an utterance")
        device = self.model.get_input_embeddings().weight.device
        ids = chat.input_ids.to(device).expand(self.num_samples, -1)
        # Equal requests, such as of the first turns of several conversations, have samples of their own.
        rng = np.random.default_rng([self._seed, self._sampled[request.key], *chat.input_ids.tolist()])
        self._sampled[request.key] += 1
        uniforms = torch.tensor(rng.random((self.num_samples, MAX_TOKENS)))
        turns = generate_turn(
            self.model,
            ids,
            torch.ones_like(ids),
            eos_token_id=self.tokenizer.eos_token_id,
            max_new_tokens=MAX_TOKENS,
            granularity=self.granularity,
            uniforms=uniforms,
        )
        texts = self.tokenizer.batch_decode(turns, skip_special_tokens=True)
        return Answers.from_texts([text.strip() for text in texts])
