"""The options of a run, which are also its `config.json`."""

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import jax
import tyro

from undelude._checks import MAX_COUNT
from undelude._files import read_json, write_atomically
from undelude._versions import versions


def _or_nothing(kind: type, metavar: str) -> tyro.constructors.PrimitiveConstructorSpec:
    """An option that has no value where it is not given; tyro would offer None as a word to type."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: kind(words[0]),
        is_instance=lambda x: x is None or isinstance(x, kind),
        str_from_instance=lambda x: [str(x)],
    )


WholeNumber = Annotated[int | None, _or_nothing(int, "INT")]
Number = Annotated[float | None, _or_nothing(float, "FLOAT")]

# Teachings in which either may execute.
SHARING = ("mixed", "dagger")


@dataclasses.dataclass(frozen=True)
class Config:
    """What determines a run, down to its last bit on one machine."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """A name from `undelude tasks`, or your own package.module:factory."""
    agent: Literal["lstm", "gru", "linear", "transformer", "markov", "predictor"] = "lstm"
    """Architecture of the agent."""
    hidden_size: WholeNumber = None
    """Units of its memory; this and what follows is the architecture's own where it is not given."""
    num_layers: WholeNumber = None
    """Of linear and transformer: layers."""
    num_heads: WholeNumber = None
    """Of transformer: heads of attention in each layer."""
    window: WholeNumber = None
    """Of transformer: how many symbols back a layer looks, two a round; all by default."""
    order: WholeNumber = None
    """Of markov and predictor: symbols that they see, two a round."""
    teaching: Literal["counterfactual", "factual", "mixed", "blind", "cloning", "dagger"] = "counterfactual"
    """Who executes: the agent, the expert, either at random, or blind chance; cloning (the expert) and dagger (either)
    leave unmarked who did."""
    expert_share: Number = None
    """Of the actions, in mixed and dagger: the probability that the expert executes; .5 by default."""
    per: Literal["step", "episode"] = "step"
    """In dagger: whether that is drawn anew each step, or once an episode."""
    target: Literal["sample", "distribution", "posterior", "reverse"] = "distribution"
    """What a prediction is scored against: an action of the expert, its whole distribution, the exact answer, or, the
    other way round, the expert's distribution against the prediction (reverse KL)."""
    observation_weight: float = 1.0
    """Of the observations' log-loss beside the actions'."""
    steps: int = 2000
    """Updates in all."""
    batch_size: int = 64
    """Episodes an update."""
    microbatch_size: WholeNumber = None
    """Episodes that a device learns from at a time, where memory is short; all of its share by default."""
    reuse: int = 1
    """Updates on each batch of episodes."""
    learning_rate: float = 3e-2
    """At its peak, after a warm-up; it then decays to zero."""
    log_every: int = 50
    """Updates between two rows of metrics.jsonl."""
    seed: int = 0
    """Of all that is drawn."""

    def __post_init__(self) -> None:
        if self.expert_share is None and self.teaching in SHARING:
            object.__setattr__(self, "expert_share", 0.5)


# What an architecture may or may not have.
SIZES = ("hidden_size", "num_layers", "num_heads", "window", "order")
# Beyond these a machine is at work for hours, or out of memory, before anything is said.
MOST = {"hidden_size": 2**14, "num_layers": 2**8, "num_heads": 2**14, "order": 2**16}


def check_config(config: Config) -> None:
    """Raise `ValueError`, naming the option, where a number is out of range."""
    for name in (*SIZES, "steps", "batch_size", "microbatch_size", "reuse", "log_every"):
        if (number := getattr(config, name)) is not None and number < 1:
            raise ValueError(f"{option(name)} must be at least 1, not {number}.")
        if number is not None and number > (most := MOST.get(name, MAX_COUNT)):
            raise ValueError(f"{option(name)} must be at most {most}, not {number}.")
    if config.per != "step" and config.teaching != "dagger":
        raise ValueError(f"--per is for --teaching dagger, not {config.teaching}, which draws who executes each step.")
    if not (math.isfinite(config.observation_weight) and config.observation_weight >= 0):
        raise ValueError(f"--observation-weight must be finite and at least 0, not {config.observation_weight}.")
    if config.expert_share is not None and config.teaching not in SHARING:
        who = {"factual": "the expert", "cloning": "the expert", "blind": "chance"}.get(config.teaching, "the agent")
        raise ValueError(
            f"--expert-share is for --teaching {' and '.join(SHARING)}, not {config.teaching}, in which {who} executes."
        )
    if config.expert_share is not None and not 0 <= config.expert_share <= 1:
        raise ValueError(f"--expert-share must be from 0 to 1, not {config.expert_share}.")
    if not (math.isfinite(config.learning_rate) and config.learning_rate > 0):
        raise ValueError(f"--learning-rate must be finite and greater than 0, not {config.learning_rate}.")
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"--seed must be from 0 to 2**32 - 1, not {config.seed}.")


def option(name: str) -> str:
    """A field's name on the command line."""
    return "TASK" if name == "task" else f"--{name.replace('_', '-')}"


def train_command(settings: Mapping[str, Any], out: Path | str, *, resume: bool = False) -> str:
    """What trains an agent in `out`, by the entries of a `config.json`, or goes on with the run that is there.

    Args:
        settings: what is no field of `Config`, such as the versions, is no option either.
        out: the run directory.
        resume: go on; the run has its settings.
    """
    command = ["undelude", "train", settings["task"]]
    for field in dataclasses.fields(Config)[1:]:
        value = settings.get(field.name)
        if not resume and isinstance(value, str | int | float):
            command += [option(field.name), str(value)]
    return shlex.join([*command, "--out", str(out), *(["--resume"] if resume else [])])


def devices() -> str:
    """How many, of what kind."""
    return f"{jax.device_count()} {jax.devices()[0].device_kind}"


def write_config(file: Path, config: Config) -> None:
    """Write `config.json`, with the versions and devices that the run is made with."""
    data = dataclasses.asdict(config) | {"devices": devices(), "versions": versions()}
    write_atomically(file, (json.dumps(data, indent=2) + "\n").encode())


def read_config(file: Path) -> tuple[Config, dict[str, str]]:
    """The options in `config.json`, and what the run was made with.

    Raises:
        ValueError: it is damaged; the message names the entry.
    """
    data = read_json(file)
    recorded = data.pop("versions", {})
    recorded = recorded if isinstance(recorded, dict) else {}
    if isinstance(there := data.pop("devices", None), str):
        recorded["devices"] = there
    hints = get_type_hints(Config)
    for name in sorted(data.keys() ^ hints.keys()):
        what = "is missing" if name in hints else "is unknown to this version of undelude"
        raise ValueError(f"{file} is damaged: {name!r:.99} {what}.")
    for name, hint in hints.items():
        if not _fits(data[name], hint):
            raise ValueError(f"{file} is damaged: {name!r} cannot be {data[name]!r:.99}.")
    config = Config(**data)
    try:
        check_config(config)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    return config, recorded


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if isinstance(hint, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    numbers = (int, float) if hint is float else hint
    if hint is float and isinstance(value, int) and abs(value) > 2**63:
        return False  # Some are larger than any float.
    return isinstance(value, numbers) and not isinstance(value, bool)
