"""The tasks of the benchmark suite, with frozen parameters: `undelude/bandit-v1` is the same process for ever.

The command line lists them without JAX: a factory is imported when its task is made.
"""

import dataclasses
import difflib
import importlib.util
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from undelude._user_code import UnknownNameError
from undelude._versions import installing

# Begins the id of each task, by which it is told apart from `bandit`, whose defaults may change.
NAMESPACE = "undelude/"
# Whether reading own actions as evidence lowers the return of the exact agent, raises it, or neither.
Effect: TypeAlias = Literal["costs", "nothing", "helps"]
# What delusion does, in words.
EFFECTS: dict[Effect, str] = {"costs": "costs", "nothing": "costs nothing", "helps": "helps"}
# The packages that an extra installs, by which it is looked for.
PACKAGES = {"gym": "gymnasium"}


@dataclasses.dataclass(frozen=True)
class VersionedTask:
    """A task of the suite. What a parameter changes, a new version says.

    Attributes:
        name, version: of the task; its id is `undelude/NAME-vVERSION`.
        factory: builds the process, as `module:name`.
        arguments: all keyword arguments of the factory, so that a changed default does not change the task.
        num_episodes: B, of a certificate.
        effect: whether delusion costs return, does nothing, or helps, between the exact agents.
        why: why the task is in the suite, in one sentence.
        recipe: the named task whose settings `undelude suite train` takes.
        extra: the optional dependencies that the task needs.
    """

    name: str
    factory: str
    arguments: Mapping[str, Any]
    num_episodes: int
    effect: Effect
    why: str
    recipe: str
    version: int = 1
    extra: str | None = None

    @property
    def id(self) -> str:
        """The id, such as `undelude/bandit-v1`."""
        return NAMESPACE + self.short_id

    @property
    def short_id(self) -> str:
        """The id without the namespace, for folders and tables."""
        return f"{self.name}-v{self.version}"

    @property
    def missing(self) -> str | None:
        """Why the task cannot be made here: the extra that is not installed; None if it can."""
        if self.extra is None or importlib.util.find_spec(PACKAGES[self.extra]) is not None:
            return None
        return f"needs the extra [{self.extra}]: {installing(self.extra)}"

    def make(self) -> Any:
        """Build the process."""
        return pkgutil.resolve_name(self.factory)(**self.arguments)


def _task(name: str, factory: str, num_episodes: int, effect: Effect, why: str, /, **arguments: Any) -> VersionedTask:
    recipe, extra = arguments.pop("recipe", name), arguments.pop("extra", None)
    return VersionedTask(
        name, factory, MappingProxyType(arguments), num_episodes, effect, why, recipe=recipe, extra=extra
    )


_ALL = (
    _task(
        "frog",
        "undelude.tasks.frog:prize_or_frog",
        4096,
        "costs",
        "The paper's first example, with a second round in which the agent can act on what it saw.",
        num_rounds=2,
    ),
    _task(
        "bandit",
        "undelude.tasks.bandit:bandit",
        8192,
        "costs",
        "Remark 11: five arms, weak evidence from each pull, and an expert whose pulls say as much as the payments.",
        num_arms=5,
        expert_accuracy=0.6,
        reward=(0.75, 0.25),
        num_rounds=20,
        name="bandit",
    ),
    _task(
        "switching_bandit",
        "undelude.tasks.switching:switching_bandit",
        4096,
        "costs",
        "Theta changes, so that an agent must also give up beliefs, over 100 rounds.",
        num_arms=5,
        hazard=0.05,
        expert_accuracy=0.6,
        reward=(0.75, 0.25),
        num_rounds=100,
    ),
    _task(
        "merge",
        "undelude.tasks.merge:merge",
        4096,
        "costs",
        "Two thetas and an end that cannot be undone: one wrong belief is a crash.",
        cue=0.8,
        num_rounds=30,
        steps=7,
        passes=20,
        accuracy=0.92,
    ),
    _task(
        "menu",
        "undelude.tasks.menu:menu",
        4096,
        "costs",
        "The epigraph, a dialogue: an action is an utterance of several words, and its words see each other.",
        dishes=("tacos", "fish soup", "cheeseburgers", "fish tacos", "pea soup"),
        expert_accuracy=0.9,
        reply=(0.75, 0.25),
        no_answer=0.2,
        num_turns=20,
        granularity="turn",
    ),
    _task(
        "menu_by_token",
        "undelude.tasks.menu:menu",
        2048,
        "costs",
        "The same dialogue, in which each word is an intervention of its own.",
        recipe="menu",
        dishes=("tacos", "fish soup", "cheeseburgers", "fish tacos", "pea soup"),
        expert_accuracy=0.9,
        reply=(0.75, 0.25),
        no_answer=0.2,
        num_turns=20,
        granularity="token",
    ),
    _task(
        "grid",
        "undelude.tasks.grid:grid",
        1024,
        "costs",
        "81 goals in a dark room and a noisy guide: one own step outweighs many bits.",
        size=9,
        cue=0.8,
        num_rounds=80,
        feedback="cue",
        door=False,
        episode_rounds=None,
        slip=0.1,
    ),
    _task(
        "arm",
        "undelude.tasks.arm:arm",
        1024,
        "costs",
        "Real-valued actions, which delude most: one turn can outweigh a hundred bits.",
        num_targets=8,
        cue=0.8,
        num_rounds=60,
        gain=0.5,
        scale=0.05,
        random_moves=0.0,
    ),
    _task(
        "leduc",
        "undelude.tasks.cards:leduc",
        8192,
        "nothing",
        "Poker near Nash: the deluded answer is far off in nats, and costs chips too few for a benchmark to see.",
        opponent="nash",
        temperature=0.25,
    ),
    _task(
        "kuhn",
        "undelude.tasks.cards:kuhn",
        8192,
        "nothing",
        "The negative control: two moves, in which there is hardly time for delusion.",
        opponent="nash",
        temperature=0.25,
    ),
    _task(
        "doors",
        "undelude.tasks.doors:doors",
        4096,
        "nothing",
        "Imitation is the wrong goal: the expert never looks, so no imitator does, and more return is not better.",
        num_doors=4,
        num_rounds=3,
        look=0.9,
        price=0.1,
        expert_accuracy=0.97,
    ),
    _task(
        "dark_room",
        "undelude.tasks.grid:grid",
        1024,
        "helps",
        "Reward on the goal alone: a sober agent dithers, a deluded one walks somewhere and looks.",
        recipe="grid",
        size=9,
        cue=1.0,
        num_rounds=100,
        feedback="reward",
        door=False,
        episode_rounds=None,
        slip=0.1,
    ),
    _task(
        "frozen_lake",
        "undelude.gym.tasks:frozen_lake",
        2048,
        "costs",
        "Tables of a Gymnasium environment, with holes that end an attempt.",
        extra="gym",
        num_rounds=40,
    ),
    _task(
        "taxi",
        "undelude.gym.tasks:taxi",
        2048,
        "helps",
        "Tables of a Gymnasium environment with 354 observations: a wrong try is dear, and a deluded agent tries less.",
        extra="gym",
        num_rounds=40,
    ),
    _task(
        "parking",
        "undelude.gym.parking:parking",
        1024,
        "costs",
        "Gymnasium's mountain car as a simulator that JAX cannot trace: theta shows in a declared cue alone.",
        extra="gym",
        places=(-0.68, -0.6, -0.44, -0.36),
        cue=0.8,
        num_rounds=60,
        num_envs=64,
    ),
)
# The tasks of the suite, by id, in the order of its tables.
SUITE: Mapping[str, VersionedTask] = MappingProxyType({task.id: task for task in _ALL})


def find_task(name: str) -> VersionedTask:
    """Return the task of an id; the namespace may be left out.

    Raises:
        UnknownNameError: there is no such task; the message names one that is close.

    >>> find_task("bandit-v1").id
    'undelude/bandit-v1'
    """
    full = name if name.startswith(NAMESPACE) else NAMESPACE + name
    if full in SUITE:
        return SUITE[full]
    near = difflib.get_close_matches(full, SUITE, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else f"The tasks are {', '.join(SUITE)}."
    raise UnknownNameError(f"the suite has no task {name!r}. {hint}")
