"""The command `undelude measure`: does a language model take its own words for evidence?"""

import json as json_format
import sys
import warnings
from typing import Any

from undelude._cli import backend
from undelude._cli.console import make_console, working
from undelude._cli.errors import CommandError, ExitCode, UsageError
from undelude._cli.options import Call, Measure
from undelude._versions import installing


def run(options: Measure, call: Call) -> ExitCode:
    """Run the command."""
    del call
    backend.configure(batch_size=1)
    from undelude.hf import MenuDialogue, measure_delusion
    from undelude.hf._measuring.client import check_further
    from undelude.hf._measuring.measure import most_requests, prepare

    texts = {name: text for name in ("prompt", "probe") if (text := getattr(options, name)) is not None}
    dialogue = MenuDialogue(dishes=options.names, num_turns=options.num_turns, **texts)
    size = {"num_conversations": options.num_conversations, "seed": options.seed}
    arguments: dict[str, Any] = {"conversations": dialogue, "num_samples": options.samples, **size}
    template = _object("--chat-template-kwargs", options.chat_template_kwargs, '{"enable_thinking": false}')
    further = _object("--extra-body", options.extra_body, '{"top_k": -1}')
    check_further(further or {})
    if options.endpoint is not None:
        num_requests = most_requests(prepare(dialogue, **size), options.samples)
        arguments |= {
            "extra_body": further,
            "model": options.model,
            "endpoint": options.endpoint,
            "max_calls": _ask_for_calls(options, num_requests),
            "api_key_variable": options.api_key_variable,
            "num_workers": options.num_workers,
            "record": options.record,
        }
    else:
        assert options.folder is not None
        try:
            from undelude.hf._measuring.local import load_model
        except ModuleNotFoundError as error:
            raise CommandError(
                f"a local model needs {error.name}: {installing('hf')}. A served one, by --endpoint, does not."
            ) from error
        arguments["model"], arguments["tokenizer"] = load_model(options.folder)
        arguments["chat_template_kwargs"] = template
    with working(make_console(stderr=True), "measuring"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "measure_delusion: ")  # The notes say the same and are printed.
        report = measure_delusion(**arguments)
    page = None if options.out is None else report.save(options.out)
    if options.json:
        print(json_format.dumps(report.to_dict(), indent=2, allow_nan=False))
    console = make_console(stderr=options.json)
    console.print(str(report).replace("\N{NO-BREAK SPACE}", " "), soft_wrap=True)
    if page is not None:
        console.print(f"Page: {page}", soft_wrap=True)
    return ExitCode.FAILED if "stopped" in report.notes else ExitCode.OK


def _object(name: str, text: str | None, example: str) -> dict[str, Any] | None:
    """Return the fields that are given as JSON."""
    try:
        fields = None if text is None else json_format.loads(text)
    except ValueError as error:
        raise UsageError(f"{name} must be JSON, not {text!r}: {error}.") from None
    if fields is not None and not isinstance(fields, dict):
        raise UsageError(f"{name} must be a JSON object such as '{example}', not {text!r}.")
    return fields


def _ask_for_calls(options: Measure, num_requests: int) -> int:
    """Return the most calls to make, after the user has agreed to them."""
    from undelude.hf._measuring.served import MAX_TOKENS, most_calls

    scored, sampled = most_calls(num_requests, options.samples)
    if options.max_calls is not None and options.max_calls < scored:
        raise UsageError(
            f"--max-calls is {options.max_calls}, and measuring takes up to {scored}: allow more, or measure with "
            "fewer --num-conversations or --num-turns."
        )
    most = sampled if options.max_calls is None else options.max_calls
    if options.yes:
        return most
    console = make_console(stderr=True)
    console.print(
        f"Measuring {options.model} takes up to {scored} calls if the server gives log-probabilities. "
        f"Otherwise it takes up to {min(sampled, most)} calls, or {scored} that return {options.samples} answers each. "
        f"A call sends about 200 words, and an answer has up to {MAX_TOKENS} tokens.",
        soft_wrap=True,
    )
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to agree to these calls: add --yes, and --max-calls for fewer.")
    if console.input("Make these calls? [y/N] ", markup=False).strip().lower() not in ("y", "yes"):
        raise CommandError("no call was made.")
    return most
