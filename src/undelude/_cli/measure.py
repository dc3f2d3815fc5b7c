"""The command `undelude measure`: does a language model take its own words for evidence?"""

import json as json_format
import warnings
from typing import Any

from undelude._cli import backend
from undelude._cli.console import make_console, working
from undelude._cli.errors import CommandError, ExitCode
from undelude._cli.options import Call, Measure
from undelude._cli.server_options import json_object
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
    arguments: dict[str, Any] = {"conversations": dialogue, "num_samples": options.server.samples, **size}
    template = json_object("--chat-template-kwargs", options.chat_template_kwargs, '{"enable_thinking": false}')
    check_further(options.server.client["extra_body"] or {})
    if options.endpoint is not None:
        num_requests = most_requests(prepare(dialogue, **size), options.server.samples)
        arguments |= {
            "model": options.server.model,
            "endpoint": options.endpoint,
            "max_calls": options.server.agree(num_requests, fewer="--num-conversations or --num-turns"),
            **options.server.client,
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
