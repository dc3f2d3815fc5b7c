"""Messages of a chat as models and servers know them."""

from collections.abc import Mapping, Sequence
from typing import Any


def without_authors(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages without the field `author`, which is ours: templates and servers do not know it.

    >>> without_authors([{"role": "assistant", "content": "soup", "author": "self"}])
    [{'role': 'assistant', 'content': 'soup'}]
    """
    return [{name: x for name, x in message.items() if name != "author"} for message in messages]
