"""The texts of a report: the verdict on a run, the story of an episode."""

import numpy as np

from undelude._certificate.numbers import short
from undelude._certificate.verdict import Verdict, describe_distances, judge
from undelude._runs.contents import RunContents
from undelude._runs.example_episode import READERS, ExampleEpisode

# Probability above which the agent is called sure.
SURE = 0.9


def verdict(run: RunContents) -> Verdict:
    """Return the verdict on the agent of a run; without a certificate, what its metrics say."""
    if run.certificate is None:
        return _without_certificate(run)
    return judge(run.quantities, run.certificate.get("notes", {}))


def _without_certificate(run: RunContents) -> Verdict:
    steps = run.config.get("steps")
    total = f" of {steps}" if steps is not None else ""
    if not run.metrics:
        return Verdict(
            "unknown",
            "No update was logged",
            "This run has no certificate: it stopped before its first row of metrics.",
        )
    last = run.metrics[-1]
    reading = f"This run has no certificate; its last row of metrics is from update {last['update']}{total}."
    do, see = last["action_kl_do"], last["action_kl_see"]
    if do is None or see is None:
        return Verdict("unknown", "The distance to either answer was not measured", reading)
    return Verdict(
        "unknown",
        f"At the last measurement {describe_distances('neither', do, see)}",
        f"{reading} Training measures without standard errors, which a verdict needs.",
    )


def story(episode: ExampleEpisode) -> list[str]:
    """Describe in sentences the round in which the two answers differ most, the actions before it, and the end."""
    variable, distributions = episode.distributions
    agent, do, see = (distributions.get(name) for name in READERS)
    assert do is not None
    assert see is not None
    t = int(np.abs(do - see).sum(-1).argmax())
    value = int((see[t] - do[t]).argmax())
    when = f"before round {t + 1}" if t < episode.num_rounds else "at the end"
    whose = "belief that the policy of the agent implies" if variable == "theta" else "policy of the agent"
    own = "" if agent is None else f", and {agent[t, value]:.2f} by the {whose}"
    apart = (
        f"The two answers are furthest apart {when}: {episode.name(variable, value)} has probability "
        f"{see[t, value]:.2f} by the deluded answer{' and' if agent is None else ','} "
        f"{do[t, value]:.2f} by the interventional one{own}."
    )
    if t > 0 and episode.policy is not None:
        taken = np.bincount(episode.actions[:t])
        favourite = int(taken.argmax())
        earned = episode.rewards[:t][episode.actions[:t] == favourite].mean()
        rounds = f"{taken[favourite]} of {t} rounds" if t > 1 else "the one round"
        apart += (
            f" By then the agent has taken action {favourite} in {rounds}, at a mean reward of {short(float(earned))}."
        )
    if variable != "theta":
        return [apart]
    truth = int(episode.theta[-1])
    own = "" if agent is None else f"{agent[-1, truth]:.2f} for the agent, "
    end = (
        f"At the end the truth, {episode.name('theta', truth)}, has probability {own}{do[-1, truth]:.2f} by the "
        f"interventional answer and {see[-1, truth]:.2f} by the deluded one."
    )
    return [apart, end] if agent is None else [_onset(episode, agent, do), apart, end]


def _onset(episode: ExampleEpisode, agent: np.ndarray, do: np.ndarray) -> str:
    """Describe the first round in which the agent is sure of a wrong theta, if there is one."""
    wrong = (agent.argmax(-1) != episode.theta) & (agent.max(-1) > SURE)
    if not wrong.any():
        return f"In this episode the agent never gives a wrong theta a probability above {SURE}."
    t = int(wrong.argmax())
    theta = int(agent[t].argmax())
    when = "From the start" if t == 0 else "After 1 round" if t == 1 else f"After {t} rounds"
    return (
        f"{when} the agent is sure of a wrong theta for the first time, {episode.name('theta', theta)} with "
        f"probability {agent[t, theta]:.2f}; the interventional answer gives it {do[t, theta]:.2f}."
    )
