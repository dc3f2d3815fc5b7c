"""The options of a served model, which `undelude measure` and `undelude suite run` share."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from undelude._cli.console import make_console
from undelude._cli.errors import CommandError, UsageError
from undelude._runs.config import Text, WholeNumber

EXAMPLE = '{"top_k": -1}'


@dataclasses.dataclass(frozen=True)
class Server:
    """For a model behind an OpenAI-compatible server alone."""

    model: Annotated[Text, tyro.conf.arg(metavar="NAME")] = None
    """Its name at the server."""
    samples: int = 10
    """Samples of each answer, if the server gives no log-probabilities, or these do not tell the answers apart."""
    max_calls: WholeNumber = None
    """The most calls to make; by default, as many as it takes."""
    num_workers: int = 8
    """Calls at the same time."""
    api_key_variable: str = "OPENAI_API_KEY"
    """The environment variable that has the API key, if there is one."""
    record: Annotated[Text, tyro.conf.arg(metavar="FILE")] = None
    """A file that keeps every answer, from which an interrupted command goes on."""
    extra_body: Annotated[Text, tyro.conf.arg(metavar="JSON")] = None
    """Further fields of every request, such as '{"top_k": -1}'."""
    yes: bool = False
    """Make the calls without asking first."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        json_object("--extra-body", self.extra_body, EXAMPLE)
        for name, least in (("samples", 2), ("num_workers", 1)):
            if (number := getattr(self, name)) < least:
                raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, not {number}.")
        if self.record is not None and (Path(self.record).is_dir() or not Path(self.record).parent.is_dir()):
            raise UsageError(f"--record must name a file in a directory that exists, not {self.record}.")

    def given(self, default: "Server") -> list[str]:
        """Return the flags of the options that differ from `default`."""
        names = [field.name for field in dataclasses.fields(self)]
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) != getattr(default, name)]

    @property
    def client(self) -> dict[str, Any]:
        """The settings of the client, as `undelude.hf` takes them."""
        return {
            "api_key_variable": self.api_key_variable,
            "num_workers": self.num_workers,
            "record": self.record,
            "extra_body": json_object("--extra-body", self.extra_body, EXAMPLE),
        }

    def agree(self, num_requests: int, *, fewer: str) -> int:
        """Return the most calls to make, after the user has agreed to them.

        Args:
            num_requests: the answers that are needed.
            fewer: the options that need fewer of them, as text.

        Raises:
            UsageError: they do not suffice, or nobody is there to ask.
            CommandError: the user does not agree.
        """
        from undelude.hf._measuring.served import MAX_TOKENS, most_calls

        scored, sampled = most_calls(num_requests, self.samples)
        if self.max_calls is not None and self.max_calls < scored:
            raise UsageError(
                f"--max-calls is {self.max_calls}, and measuring takes up to {scored}: allow more, or measure with "
                f"fewer {fewer}."
            )
        most = sampled if self.max_calls is None else self.max_calls
        if self.yes:
            return most
        console = make_console(stderr=True)
        console.print(
            f"Measuring {self.model} takes up to {scored} calls if the server gives log-probabilities, and these tell "
            f"the answers apart. Otherwise it takes up to {min(sampled, most)} calls, or {min(2 * scored, most)} if a "
            f"call returns {self.samples} answers. A call sends about 200 words, and an answer has up to {MAX_TOKENS} "
            "tokens.",
            soft_wrap=True,
        )
        if not sys.stdin.isatty():
            raise UsageError("nobody is there to agree to these calls: add --yes, and --max-calls for fewer.")
        if console.input("Make these calls? [y/N] ", markup=False).strip().lower() not in ("y", "yes"):
            raise CommandError("no call was made.")
        return most


def json_object(name: str, text: str | None, example: str) -> dict[str, Any] | None:
    """Return the fields that an option gives as JSON; raise `UsageError` if it does not."""
    try:
        fields = None if text is None else json.loads(text)
    except ValueError as error:
        raise UsageError(f"{name} must be JSON, not {text!r}: {error}.") from None
    if fields is not None and not isinstance(fields, dict):
        raise UsageError(f"{name} must be a JSON object such as '{example}', not {text!r}.")
    return fields
