"""Serve a taught model so that its own words stay marked: in the terminal, or behind an endpoint.

    python examples/language/serve.py out/menu/model                  talk to it
    python examples/language/serve.py out/menu/model --port 8000      for programs that speak OpenAI's protocol

The folder is that of `trainer.save_model`, with the tokenizer. A chat is kept as ids, because text has no marks: what
others say is added by `reply_ids`, and the model's turn by `generate_turn`, marked as x + V. Servers that build the
prompt from text, such as `transformers serve`, load the folder too, but give the model its own words unmarked, which
it reads as somebody else's.
"""

import argparse
import contextlib
import json
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from undelude.hf import DoTokens, encode_chat, generate_turn, reply_ids

Message = Mapping[str, Any]
# Fields of a request that are read. Log-probabilities are not given, and the response says so.
READ = {
    "model",
    "messages",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "logprobs",
    "top_logprobs",
    "user",
}
# Fields that must have one of these values.
FIXED = {"stream": (False, None), "top_p": (1, None), "stop": (None,)}


class Chat:
    """A conversation with a model that has marks, as ids.

    Attributes:
        messages: so far.
        ids: of the messages; those that the model wrote are x + V.
        is_cut: whether the last reply had no room for its end.
    """

    def __init__(self, model: Any, tokenizer: Any, **template: Any):
        marks = DoTokens.of(model)
        if marks is None:
            raise ValueError("This model has no marks: serve it in any other way, or teach it with DoTokens.wrap.")
        self.model, self.tokenizer, self.template = model, tokenizer, template
        self.V, self.granularity = marks.vocab_size, marks.granularity or "turn"
        self.messages: list[Message] = []
        self.ids: list[int] = []
        self.is_cut = False

    def copy(self) -> "Chat":
        """Return the same conversation, which can go on in another way."""
        chat = Chat(self.model, self.tokenizer, **self.template)
        chat.messages, chat.ids = [*self.messages], [*self.ids]
        return chat

    def say(self, messages: str | Sequence[Message], *, max_new_tokens: int = 256, temperature: float = 1.0) -> str:
        """Say something to the model, and return its reply.

        Args:
            messages: the user's words; or messages, of which the assistant's are the model's own unless their "author"
                is another.
            max_new_tokens: of the reply, which is ended there.
            temperature: of the reply; 0 takes the likeliest words.
        """
        new = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        options: dict[str, Any] = {"chat_template_kwargs": self.template}
        if self.ids:
            self.ids += reply_ids(self.messages, new, self.tokenizer, **options)
        else:
            options |= {"vocab_size": self.V, "add_generation_prompt": True}
            self.ids = encode_chat(new, self.tokenizer, **options).input_ids.tolist()
        ids, end = torch.tensor([self.ids], device=self.model.device), self.tokenizer.eos_token_id
        turn = generate_turn(
            self.model,
            ids,
            torch.ones_like(ids),
            eos_token_id=end,
            max_new_tokens=max_new_tokens,
            granularity=self.granularity,
            temperature=temperature,
        )[0].tolist()
        self.is_cut = end not in turn
        turn = [*turn, end] if self.is_cut else turn
        self.ids += [x + self.V for x in turn]  # The turn is over: its words are the model's own from now on.
        text = self.tokenizer.decode(turn[:-1], skip_special_tokens=True)
        self.messages += [*new, {"role": "assistant", "content": text, "author": "self"}]
        return text


class Server(HTTPServer):
    """An endpoint of OpenAI's protocol on this machine: chat completions, one at a time.

    A request has the whole conversation as text. One that goes on from a reply of this server is found among the chats
    that it keeps, with the ids that the model wrote. In any other, the assistant's messages are the model's own unless
    their "author" is another, such as "expert".

    Args:
        model: with marks.
        tokenizer: of the model.
        name: of the model, for clients.
        port: 0 for any.
        **template: further arguments of the chat template, such as enable_thinking.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, port: int = 0, **template: Any):
        self.new_chat, self.name = Chat(model, tokenizer, **template).copy, name
        self.chats: dict[str, Chat] = {}
        super().__init__(("127.0.0.1", port), _Handler)

    def complete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response to a request.

        Raises:
            ValueError: the request asks for something that this server does not do.
        """
        for field, value in request.items():
            if field not in READ and value not in FIXED.get(field, ()):
                raise ValueError(f"{field} is not supported by this server: leave it out.")
        if request.get("model") != self.name:
            raise ValueError(f"there is no model {request.get('model')!r} here, but {self.name!r}.")
        messages = list(request["messages"])
        own = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
        known = self.chats.get(_key(messages[: own[-1] + 1])) if own else None
        options = {"temperature": request.get("temperature", 1.0)}
        most = request.get("max_completion_tokens") or request.get("max_tokens")
        choices = []
        for i in range(request.get("n") or 1):
            chat = self.new_chat() if known is None else known.copy()
            text = chat.say(messages[len(chat.messages) :], **options | ({"max_new_tokens": most} if most else {}))
            self.chats[_key(chat.messages)] = chat
            message = {"role": "assistant", "content": text}
            reason = "length" if chat.is_cut else "stop"
            choices.append({"index": i, "message": message, "logprobs": None, "finish_reason": reason})
        while len(self.chats) > 1000:  # The oldest is encoded again, if it goes on.
            del self.chats[next(iter(self.chats))]
        return {"object": "chat.completion", "model": self.name, "choices": choices}


def _key(messages: Sequence[Message]) -> str:
    return json.dumps([[m["role"], m["content"], m.get("author") in (None, "self")] for m in messages])


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": self.server.name, "object": "model"}]})

    def do_POST(self) -> None:
        try:
            if self.path != "/v1/chat/completions":
                raise ValueError(f"there is no {self.path} here, only /v1/chat/completions.")
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(200, self.server.complete(request))
        except (KeyError, TypeError, ValueError) as error:
            self._send(400, {"error": {"message": str(error), "type": "invalid_request_error"}})

    def _send(self, status: int, data: Any) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of trainer.save_model")
    parser.add_argument("--port", type=int, help="serve there, in place of a chat in the terminal")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the chat in the terminal")
    parser.add_argument("--chat-template-kwargs", type=json.loads, default={}, help="a JSON object, as in training")
    args = parser.parse_args()
    if not (Path(args.folder) / "config.json").is_file():
        parser.error(f"{args.folder} is not the folder of a model: it has no config.json.")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(args.folder), AutoTokenizer.from_pretrained(args.folder)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    if args.port is not None:
        server = Server(model, tokenizer, args.folder, args.port, **args.chat_template_kwargs)
        print(f"{args.folder} at http://127.0.0.1:{server.server_address[1]}/v1; Ctrl-C ends it.", flush=True)
        server.serve_forever()
    chat = Chat(model, tokenizer, **args.chat_template_kwargs)
    print("An empty line ends the chat.")
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while text := input("> "):
            print(chat.say(text, temperature=args.temperature))
