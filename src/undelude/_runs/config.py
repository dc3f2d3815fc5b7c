"""The options of a run, as its command line and its `config.json` hold them."""

import dataclasses
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import tyro

from undelude._agents.networks.registry import ARCHITECTURES, NamedArchitecture
from undelude._named_tasks import is_fit
from undelude._teaching.registry import TEACHINGS, NamedTeaching
from undelude._types import MAX_COUNT, Per, Target

# Options of `undelude offline dream` that are those of `train`.
DREAM_OPTIONS = ("agent", "hidden_size", "steps", "batch_size", "learning_rate", "seed")


def _or_nothing(kind: type, metavar: str) -> tyro.constructors.PrimitiveConstructorSpec:
    """Return a constructor for an option that is None by default; tyro alone would offer the word None as a value."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: kind(words[0]),
        is_instance=lambda x: x is None or isinstance(x, kind),
        str_from_instance=lambda x: [str(x)],
    )


if TYPE_CHECKING:
    AgentName = str
    TeachingName = str
else:
    AgentName, TeachingName = Literal[*ARCHITECTURES], Literal[*TEACHINGS]
WholeNumber = Annotated[int | None, _or_nothing(int, "INT")]
Number = Annotated[float | None, _or_nothing(float, "FLOAT")]
Text = Annotated[str | None, _or_nothing(str, "STR")]


def names_with(registry: Mapping[str, NamedArchitecture] | Mapping[str, NamedTeaching], option: str) -> list[str]:
    """Return the names of the architectures or teachings that have an option."""
    return [name for name, named in registry.items() if option in named.options]


def _size(help: str, name: str) -> Any:
    """Return the help text of a size, with the architectures that have it."""
    return tyro.conf.arg(help=help.format(" and ".join(names_with(ARCHITECTURES, name))))


# Teachings in which agent and expert share the execution, and the expert's share by default.
SHARING, SHARE = names_with(TEACHINGS, "expert_share"), 0.5
# Teachings that draw the executor in each round (step) or once an episode.
PER_STEP_OR_EPISODE = names_with(TEACHINGS, "per")


TEACHING_HELP = "Executor of the actions, and whether they are marked: {}.".format(
    ", ".join(
        f"{name} ({teaching.executor}{'' if teaching.is_marked else ', unmarked'})"
        for name, teaching in TEACHINGS.items()
    )
)
SHARE_HELP = f"Probability that the expert executes an action, in {' and '.join(SHARING)}; {SHARE} by default."
PER_HELP = f"Whether {' and '.join(PER_STEP_OR_EPISODE)} draws the executor in each round (step) or once an episode."


# Seconds between two checkpoints, by default.
SECONDS_BETWEEN = 10.0


@dataclasses.dataclass(frozen=True)
class Config:
    """The options that determine a run, to the last bit on one machine."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """A name from `undelude tasks`, which also lists their settings, or your own package.module:factory."""
    agent: AgentName = "lstm"
    """Architecture of the agent."""
    hidden_size: WholeNumber = None
    """Units of its memory; sizes that are not given are the architecture's own."""
    num_layers: Annotated[WholeNumber, _size("Layers, for {}.", "num_layers")] = None
    num_heads: Annotated[WholeNumber, _size("Attention heads in each layer, for {}.", "num_heads")] = None
    window: Annotated[
        WholeNumber, _size("Symbols that a layer looks back, two a round, for {}; all by default.", "window")
    ] = None
    order: Annotated[WholeNumber, _size("Symbols that {} see, two a round.", "order")] = None
    num_components: Annotated[
        WholeNumber,
        _size("Normals in a predicted mixture of real numbers, for {}; by the values of theta.", "num_components"),
    ] = None
    teaching: Annotated[TeachingName, tyro.conf.arg(help=TEACHING_HELP)] = "counterfactual"
    expert_share: Annotated[Number, tyro.conf.arg(help=SHARE_HELP)] = None
    per: Annotated[Per, tyro.conf.arg(help=PER_HELP)] = "step"
    target: Target = "distribution"
    """Target of the action predictions. sample: an action of the expert; distribution: the expert's whole distribution;
    posterior: the exact posterior predictive; reverse: the expert's distribution, by reverse KL."""
    observation_weight: float = 1.0
    """Weight of the observations' log-loss; the actions' has weight 1."""
    steps: int = 2000
    """Number of updates."""
    batch_size: int = 64
    """Episodes per update."""
    microbatch_size: WholeNumber = None
    """Episodes that a device learns from at a time; fewer need less memory. Its whole share by default."""
    reuse: int = 1
    """Updates on each batch of episodes."""
    learning_rate: float = 3e-2
    """Peak learning rate; it warms up and then decays to zero."""
    log_every: int = 50
    """Updates between two rows of metrics.jsonl."""
    seed: int = 0
    """Random seed."""

    def __post_init__(self) -> None:
        if self.expert_share is None and self.teaching in SHARING:
            object.__setattr__(self, "expert_share", SHARE)


# Sizes that an architecture may have.
SIZES = tuple(field.name for field in dataclasses.fields(Config) if names_with(ARCHITECTURES, field.name))
# Largest sizes: beyond them a machine works for hours or runs out of memory before it reports anything.
MAX_SIZES = {"hidden_size": 2**14, "num_layers": 2**8, "num_heads": 2**14, "order": 2**16, "num_components": 2**10}


def check_config(config: Config) -> None:
    """Raise `ValueError`, naming the option, if a number is out of range or two options contradict each other."""
    for name in (*SIZES, "steps", "batch_size", "microbatch_size", "reuse", "log_every"):
        if (number := getattr(config, name)) is not None and number < 1:
            raise ValueError(f"{option(name)} must be at least 1, not {number}.")
        if number is not None and number > (most := MAX_SIZES.get(name, MAX_COUNT)):
            raise ValueError(f"{option(name)} must be at most {most}, not {number}.")
    if config.per != "step" and config.teaching not in PER_STEP_OR_EPISODE:
        raise ValueError(
            f"--per is for --teaching {' and '.join(PER_STEP_OR_EPISODE)}, not {config.teaching}, which draws the "
            "executor in each round."
        )
    if not (math.isfinite(config.observation_weight) and config.observation_weight >= 0):
        raise ValueError(f"--observation-weight must be finite and at least 0, not {config.observation_weight}.")
    if config.expert_share is not None and config.teaching not in SHARING:
        raise ValueError(
            f"--expert-share is for --teaching {' and '.join(SHARING)}, not {config.teaching}, in which "
            f"{TEACHINGS[config.teaching].executor} executes."
        )
    if config.expert_share is not None and not 0 <= config.expert_share <= 1:
        raise ValueError(f"--expert-share must be from 0 to 1, not {config.expert_share}.")
    if not (math.isfinite(config.learning_rate) and config.learning_rate > 0):
        raise ValueError(f"--learning-rate must be finite and greater than 0, not {config.learning_rate}.")
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"--seed must be from 0 to 2**32 - 1, not {config.seed}.")


def option(name: str) -> str:
    """Return the name of a field on the command line."""
    return "TASK" if name == "task" else f"--{name.replace('_', '-')}"


Recipe: TypeAlias = Mapping[str, str | int | float]


# Options that a recipe does not have: what memory an update takes and what is logged change nothing that is learnt.
NO_RECIPE = ("task", "seed", "microbatch_size", "log_every")


def recipe(config: Config) -> Recipe:
    """Return the options by which a run is taught: those that are given and change what it learns, but for the seed."""
    return {name: x for name, x in vars(config).items() if x is not None and name not in NO_RECIPE}


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return the first option that two recipes, or configurations, do not have in common; None if they are equal."""
    return next((name for name in {**one, **other} if one.get(name) != other.get(name)), None)


def is_dream(settings: Mapping[str, Any]) -> bool:
    """Return whether `undelude offline dream` can have made a run with these entries of a `config.json`."""
    if not is_fit(settings["task"]):
        return False
    given = {name: settings[name] for name in DREAM_OPTIONS if name in settings}
    made = Config(settings["task"], target="posterior", **given)
    return all(settings.get(name, value) == value for name, value in vars(made).items())


def train_command(settings: Mapping[str, Any], out: Path | str, *, resume: bool = False) -> str:
    """Return the command that trains an agent in `out` with the entries of a `config.json`, or resumes that run.

    Args:
        settings: entries of a `config.json`; those that are not fields of `Config` are ignored.
        out: the run directory.
        resume: resume the run, which has its settings.
    """
    if resume and is_dream(settings):
        return shlex.join(["undelude", "offline", "dream", settings["task"], "--out", str(out), "--resume"])
    x64 = not resume and settings.get("jax_enable_x64") is True
    command = [*(["JAX_ENABLE_X64=1"] if x64 else []), "undelude", "train", settings["task"]]
    for field in dataclasses.fields(Config)[1:]:
        value = settings.get(field.name)
        if not resume and isinstance(value, str | int | float):
            command += [option(field.name), str(value)]
    return shlex.join([*command, "--out", str(out), *(["--resume"] if resume else [])])
