"""Chats as ids, put together from the kept ids of their messages."""

import bisect
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from undelude.hf._marks.chat import Message, encode_chat

# Messages whose ids are kept, and chats of which one is encoded again as a whole; so are the first few.
MAX_KEPT, CHECK_EVERY = 10_000, 1000
_TEXT = {"role", "content", "author"}
# The ids of a chat, which of them are contents of messages, and the message of each.
Encoded: TypeAlias = tuple[list[int], list[bool], list[int]]


class ChatPieces:
    """The ids of chats, as `encode_chat` gives them without marks; known messages are not rendered again.

    The ids of a message may depend on the roles before it and after it, and on the contents of the first message, of
    the one before it and of its own. If a chat shows that they depend on more, no message is kept from then on, and a
    warning says how many chats may be wrong.

    Args:
        tokenizer: of the model.
        vocab_size: V, the words of the model.
        chat_template_kwargs: further arguments of the chat template.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        vocab_size: int | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ):
        self.tokenizer, self.vocab_size, self.chat_template_kwargs = tokenizer, vocab_size, chat_template_kwargs
        self.keeps, self._num, self._num_put_together = True, 0, 0
        self._kept: dict[Any, tuple[list[int], list[bool]]] = {}

    def encode(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> Encoded:
        """Return the ids of a chat, which of them are contents of messages, and the number of each one's message."""
        if not self.keeps or not is_text(messages):
            return self._whole(messages, add_generation_prompt)
        # The last key is of the words after the last message, such as a generation prompt.
        roles = (*[m["role"] for m in messages], add_generation_prompt)
        contents = [None, *[m["content"] for m in messages], None]
        keys = [(roles[: i + 2], contents[1], *pair) for i, pair in enumerate(itertools.pairwise(contents))]
        pieces = [self._kept.get(key) for key in keys]
        if None in pieces:
            return self._learn(messages, add_generation_prompt, keys, pieces)
        self._num += 1
        # 1, 2, 4, 8, ..., and then each CHECK_EVERY-th.
        if self._num % CHECK_EVERY == 0 or (self._num < CHECK_EVERY and self._num & (self._num - 1) == 0):
            return self._learn(messages, add_generation_prompt, keys, pieces)
        self._num_put_together += 1
        ids, is_content, message = [], [], []
        for i, piece in enumerate(pieces):
            assert piece is not None
            ids += piece[0]
            is_content += piece[1]
            message += [i] * len(piece[0])
        return ids, is_content, message

    def _learn(self, messages: Sequence[Message], prompt: bool, keys: Sequence[Any], known: Sequence[Any]) -> Encoded:
        """Encode a chat as a whole, and keep its pieces."""
        ids, is_content, message = whole = self._whole(messages, prompt)
        stops = [0, *(bisect.bisect_right(message, i) for i in range(len(keys)))]
        pieces = [(ids[a:b], is_content[a:b]) for a, b in itertools.pairwise(stops)]
        # A message may be within another, as instructions that a template writes into the user's first.
        if message != sorted(message) or any(x not in (None, piece) for x, piece in zip(known, pieces, strict=True)):
            self.keeps = False
            if self._num_put_together:
                warnings.warn(
                    "The chat template encodes a message in another way after other words far before it. Up to "
                    f"{self._num_put_together} chats before this one may have been encoded otherwise than as a whole, "
                    "and their numbers may be wrong. Choose a template that renders messages one by one.",
                    UserWarning,
                    stacklevel=2,
                )
            return whole
        if len(self._kept) > MAX_KEPT:
            self._kept.clear()
        self._kept |= zip(keys, pieces, strict=True)
        return whole

    def _whole(self, messages: Sequence[Message], prompt: bool) -> Encoded:
        chat = encode_chat(
            messages,
            self.tokenizer,
            vocab_size=self.vocab_size,
            mark=False,
            add_generation_prompt=prompt,
            chat_template_kwargs=self.chat_template_kwargs,
        )
        return chat.input_ids.tolist(), (chat.own | chat.observed).tolist(), chat.message.tolist()


def is_text(messages: Sequence[Message]) -> bool:
    """Return whether messages are texts and nothing else, such as calls of tools."""
    return all(isinstance(m.get("content"), str) and m.keys() <= _TEXT for m in messages)
