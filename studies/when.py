"""When does conditioning delude? Every task by the quality of its feedback: exact agents, and networks at .8.

python studies/when.py                          about 35 minutes on two cores
python studies/when.py --tasks merge            one task; the results of the others are kept
python studies/when.py --tasks grid --exact     the same without networks, whose results are kept
python studies/when.py --few                    a trial run
"""

import argparse
import time
from typing import Any

import jax
import numpy as np
import store

import undelude as ud
from undelude._named_tasks import SETTINGS
from undelude._runs.config import Config
from undelude.tasks import crashed
from undelude.tasks.menu import SILENCE

CUES = (0.5, 0.55, 0.6, 0.7, 0.8, 0.95, 0.99)
# Qualities at which networks are taught.
NOMINAL = (None, 0.8, "nash", "a look, right with .9", "replies right with .75", "the same by token")


def at_the_end(episodes: ud.Episodes) -> np.ndarray:
    """Return the reward per round in the last twenty rounds."""
    return np.asarray(episodes.reward[:, -20:].mean(-1), float)


def last_turns(episodes: ud.Episodes) -> np.ndarray:
    """Return the share of right dishes in the last five turns of the menu."""
    ends = np.asarray(episodes.mask & (episodes.observations != SILENCE))
    turn = ends.cumsum(-1)
    last = ends & (turn > turn[:, -1:] - 5)
    return np.where(last, episodes.reward, 0.0).sum(-1) / last.sum(-1)


def a_round(episodes: ud.Episodes) -> np.ndarray:
    """Return the reward per round."""
    return np.asarray(episodes.reward.mean(-1), float)


def a_hand(episodes: ud.Episodes) -> np.ndarray:
    """Return the reward per episode, such as chips per hand."""
    return np.asarray(episodes.reward.sum(-1), float)


def crashes(episodes: ud.Episodes) -> np.ndarray:
    """Return whether the episode ends in a crash."""
    return np.asarray(crashed(episodes), float)


# Other kinds of feedback than warmer and colder.
GRIDS: dict[str, dict[str, Any]] = {
    "sharp reward alone": {"feedback": "reward", "cue": 1.0, "num_rounds": 100},
    "reward right with .75": {"feedback": "reward", "cue": 0.75, "num_rounds": 100},
    "reward right with .75, on 5 x 5": {"feedback": "reward", "cue": 0.75, "num_rounds": 100, "size": 5},
    "sharp reward, ten episodes": {"feedback": "reward", "cue": 1.0, "num_rounds": 200, "episode_rounds": 20},
    "reward right with .75, ten episodes": {"feedback": "reward", "cue": 0.75, "num_rounds": 200, "episode_rounds": 20},
    "cue 0.8, a key first, on 4 x 4": {"cue": 0.8, "size": 4, "door": True},
}


def grid(quality: float | str) -> ud.InteractionProcess:
    """Return the grid with a cue of that quality, or one of `GRIDS`."""
    return ud.tasks.grid(**(GRIDS[quality] if isinstance(quality, str) else {"cue": quality}))


def doors(quality: str) -> ud.InteractionProcess:
    """Return the doors without looks, or with looks in three rounds."""
    return ud.tasks.doors() if quality == "no looks" else ud.tasks.doors(look=0.9, num_rounds=3)


# Replies of the customer, and actions.
MENUS: dict[str, dict[str, Any]] = {
    "replies right with .55": {"reply": (0.55, 0.45)},
    "replies right with .75": {},
    "the same by token": {"granularity": "token"},
    "replies right with .95": {"reply": (0.95, 0.05)},
}

# Task: factory, qualities, outcome, episodes for the outcome and for the KL. The networks have the task's own settings.
TASKS: dict[str, Any] = {
    "bandit": (lambda q: ud.tasks.bandit(), [None], a_round, 10_000, 4000),
    "switching_bandit": (lambda q: ud.tasks.switching_bandit(), [None], a_round, 4000, 1000),
    "merge": (ud.tasks.merge, CUES, crashes, 20_000, 4000),
    "kuhn": (ud.tasks.kuhn, ["nash", "random"], a_hand, 1_000_000, 20_000),
    "leduc": (ud.tasks.leduc, ["nash", "random"], a_hand, 1_000_000, 20_000),
    "grid": (grid, [*CUES, *GRIDS], at_the_end, 2000, 400),
    "arm": (lambda q: ud.tasks.arm(cue=q), CUES, at_the_end, 2000, 400),
    "menu": (lambda q: ud.tasks.menu(**MENUS[q]), [*MENUS], last_turns, 20_000, 4000),
    "doors": (doors, ["no looks", "a look, right with .9"], a_hand, 100_000, 4000),
}


def row(process: ud.InteractionProcess, name: str, agent: Any, task: str, quality: Any, few: bool) -> dict[str, Any]:
    """Return the outcome of an agent, and the KL divergence of its policy from the interventional one."""
    _, _, outcome, num_episodes, kl_episodes = TASKS[task]
    size = {"key": jax.random.key(5), "num_episodes": 50 if few else num_episodes}
    executor = "agent" if agent is not None else "expert"
    x = outcome(ud.rollout(process, agent, executor=executor, **size))
    found = {"task": task, "quality": quality, "agent": name, "outcome": x.mean(), "se": x.std() / np.sqrt(len(x))}
    found |= {"action_kl_do": None, "action_kl_do_se": None}
    if name in ("see", "counterfactual", "factual"):
        size = {"key": jax.random.key(6), "num_episodes": 20 if few else kl_episodes}
        certificate = ud.certify(process, agent, baselines=False, **size)
        found |= {"action_kl_do": certificate.action_kl_do, "action_kl_do_se": certificate.action_kl_do_se}
    print(found, flush=True)
    return found


TEACHINGS = (ud.Counterfactual, ud.Factual)


def study(task: str, exact: bool, few: bool) -> dict[str, Any]:
    """Return new rows for `task`, and the stored rows of other tasks; with `exact` also those of its networks."""
    settings = {name: Config(name, **SETTINGS.get(name, {})) for name in TASKS}
    config, before = settings[task], {} if few else store.earlier("when")
    teachings = [make(observation_weight=config.observation_weight) for make in TEACHINGS]
    nets = [teaching.name for teaching in teachings]
    rows = [row for row in before.get("rows", []) if row["task"] != task or (exact and row["agent"] in nets)]
    seconds = dict(before.get("training_seconds", {}))
    factory, qualities, *_ = TASKS[task]
    size = {} if config.hidden_size is None else {"hidden_size": config.hidden_size}
    for quality in qualities:
        process = factory(quality)
        agents = {"expert": None, "do": ud.ExactAgent(process), "see": ud.ExactAgent(process, "see")}
        if process.transition is None:
            agents["committed"] = ud.ThompsonAgent(process, resample="belief")
        if quality in NOMINAL and not exact:
            for teaching in teachings:
                started = time.perf_counter()
                agents[teaching.name] = ud.teach(
                    process,
                    ud.LSTMAgent(process, **size, key=jax.random.key(0)),
                    teaching,
                    key=jax.random.key(1),
                    steps=5 if few else config.steps,
                    batch_size=config.batch_size,
                    learning_rate=config.learning_rate,
                ).agent
                seconds[f"{task}_{teaching.name}"] = round(time.perf_counter() - started, 1)
        rows += [row(process, name, agent, task, quality, few) for name, agent in agents.items()]
    tasks = [task for task in TASKS if any(row["task"] == task for row in rows)]
    order = ["expert", "do", "see", "committed", *nets]
    place = {task: (i, list(TASKS[task][1])) for i, task in enumerate(TASKS)}

    def key(row: dict[str, Any]) -> tuple[int, ...]:
        i, qualities = place[row["task"]]
        return i, qualities.index(row["quality"]), order.index(row["agent"])

    rows.sort(key=key)
    shown = ("hidden_size", "steps", "batch_size", "learning_rate", "observation_weight")
    used = {name: {x: getattr(settings[name], x) for x in shown} for name in tasks}
    about = {"agent": "LSTMAgent", "steps": used, "outcomes": {name: TASKS[name][2].__name__ for name in tasks}}
    times = {"training_seconds": seconds, "seconds": round(sum(seconds.values()), 1)}
    return {"seeds": [0], "settings": about, "rows": rows, **times}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--exact", action="store_true", help="no networks")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    args = parser.parse_args()
    # Stored after each task, so that an interrupted run keeps its results.
    for task in args.tasks:
        store.run("when", lambda task=task: study(task, args.exact, args.few), keep=not args.few)
