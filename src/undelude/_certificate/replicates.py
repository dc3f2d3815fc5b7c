"""One teaching from several seeds, and confidence intervals over the seeds."""

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key
from numpy.typing import ArrayLike

from undelude._agents.base import AbstractAgent
from undelude._certificate.certificate import QUANTITIES, Certificate, certify
from undelude._checks import check_count, check_key
from undelude._process.process import InteractionProcess
from undelude._teaching.loop import Loop, Run
from undelude._teaching.settings import Teaching

# Confidence level of the intervals.
LEVEL = 0.95
# The options of `teach`.
OPTIONS = tuple(name for name in inspect.signature(Loop).parameters if name not in ("process", "teaching"))


class Interval(NamedTuple):
    """A mean over seeds and its confidence interval.

    Attributes:
        mean: of the values.
        low, high: the ends of the 95 % interval, by Student's t with n - 1 degrees of freedom for n seeds.
        values: one for each seed.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...]

    def __str__(self) -> str:
        """Return the mean, and the interval in brackets."""
        return f"{self.mean:.5f} [{self.low:.5f}, {self.high:.5f}]"


def interval(values: ArrayLike) -> Interval:
    """Return the mean and its 95 % interval, `mean +- t(.975, n - 1) s / sqrt(n)`.

    The values are assumed to be independent and normal. The interval covers the spread over seeds, that is over initial
    weights and data.

    Args:
        values: at least two.

    Raises:
        ValueError: there are fewer than two values.

    >>> str(interval([1.0, 2.0, 3.0]))
    '2.00000 [-0.48414, 4.48414]'
    """
    from scipy import stats  # It takes half a second to import.

    x = np.asarray(values, float)
    if x.size < 2:
        raise ValueError(f"an interval needs at least two values, not {x.size}.")
    mean = float(x.mean())
    half = float(stats.t.ppf((1 + LEVEL) / 2, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size))
    return Interval(mean, mean - half, mean + half, tuple(x.tolist()))


@dataclasses.dataclass(frozen=True)
class Replicates:
    """The result of `replicate`, with one entry for each seed.

    Attributes:
        runs: as from `teach`.
        certificates: as from `certify`.
    """

    runs: list[Run]
    certificates: list[Certificate]

    def interval(self, name: str) -> Interval:
        """Return the interval of a quantity of the certificate, such as `"action_kl_do"`, over all seeds.

        Raises:
            ValueError: a certificate has no such quantity, or it was not measured, or it is infinite.
        """
        if name not in QUANTITIES:
            raise ValueError(f"a certificate has no {name!r}; it has {', '.join(QUANTITIES)}.")
        values = [getattr(certificate, name) for certificate in self.certificates]
        if None in values:
            raise ValueError(f"{name} has no interval: {self.certificates[values.index(None)].notes[name]}")
        if infinite := [str(i) for i, value in enumerate(values) if value == math.inf]:
            raise ValueError(f"{name} has no interval: it is infinite for seed {', '.join(infinite)}.")
        return interval(values)

    def __str__(self) -> str:
        """Return a line for each quantity that was measured."""
        first, n = self.certificates[0], len(self.certificates)
        lines = [f"{first.agent} on {first.task}, {n} seeds: mean and {LEVEL:.0%} interval over them"]
        for name in QUANTITIES:
            if all(getattr(certificate, name) not in (None, math.inf) for certificate in self.certificates):
                lines.append(f"  {name:28} {self.interval(name)}")
        return "\n".join(lines)


def replicate(
    process: InteractionProcess,
    make_agent: Callable[[Key[Array, ""]], AbstractAgent],
    teaching: Teaching,
    *,
    key: Key[Array, ""],
    num_seeds: int = 5,
    num_episodes: int = 4096,
    baselines: bool = False,
    **options: Any,
) -> Replicates:
    """Teach and certify from several seeds: one number from one seed says little about a method.

    Seed i draws the agent, the teaching and the certificate from `fold_in(key, i)`. All seeds share one compiled
    program.

    Args:
        process: as for `teach`.
        make_agent: from a key to an agent, such as `lambda key: ud.LSTMAgent(process, key=key)`.
        teaching: as for `teach`.
        key: for all random draws.
        num_seeds: at least 2.
        num_episodes: episodes of each certificate.
        baselines: as for `certify`.
        options: options of `teach`: steps, batch_size, microbatch_size, reuse, learning_rate, optimizer, log_every.

    Raises:
        ValueError: there are fewer than two seeds.
        TypeError: `make_agent` is not a function, or an option is unknown.

    >>> import undelude as ud
    >>> process = ud.tasks.bandit(num_arms=2, num_rounds=2)
    >>> make_agent = lambda key: ud.GRUAgent(process, 4, key=key)
    >>> runs = ud.replicate(  # doctest: +SKIP
    ...     process, make_agent, ud.Counterfactual(), key=jax.random.key(0), num_seeds=2, steps=5, num_episodes=64
    ... )
    >>> len(runs.interval("action_kl_do").values)  # doctest: +SKIP
    2
    """
    if check_count("num_seeds", num_seeds) < 2:
        raise ValueError(f"num_seeds must be at least 2, for an interval, not {num_seeds}; for one seed, use ud.teach.")
    check_key(key)
    if not callable(make_agent) or isinstance(make_agent, AbstractAgent):
        raise TypeError(
            "make_agent must be a function of a key that returns a fresh agent, such as lambda key: "
            f"ud.LSTMAgent(process, key=key), not of type {type(make_agent).__name__}."
        )
    if unknown := options.keys() - set(OPTIONS):
        raise TypeError(f"replicate has no option {', '.join(sorted(unknown))}; there are {', '.join(OPTIONS)}.")
    loop = Loop(process, teaching, **options)
    runs, certificates = [], []
    for i in range(num_seeds):
        key_agent, key_teach, key_certify = jax.random.split(jax.random.fold_in(key, i), 3)
        run = loop.run(loop.begin(make_agent(key_agent)), key=key_teach)
        report = certify(process, run.agent, key=key_certify, num_episodes=num_episodes, baselines=baselines)
        runs.append(run)
        certificates.append(report)
    return Replicates(runs, certificates)
