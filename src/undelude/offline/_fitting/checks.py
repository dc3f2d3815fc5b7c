"""Checks of demonstrations against what is to be fitted to them."""

from typing import Any

import numpy as np

from undelude.offline._data.columns import Level
from undelude.offline._data.demos import Demos
from undelude.offline._model.contexts import column
from undelude.offline._model.hypotheses import Hypotheses
from undelude.offline._model.mechanisms import Gaussian
from undelude.offline._model.spec import LatentSpec, Layout


def check_demonstrated(spec: LatentSpec, demos: Demos) -> None:
    """Raise `ValueError` if the spec's own expert is to be learned, and no action is a demonstrator's."""
    only = isinstance(spec.latent[0], Hypotheses) and spec.latent[0].beside is None
    if not only and not demos.demonstrated.any():
        raise ValueError(
            f"fit: every action of {demos!r} is an intervention, so that there is no demonstrator to learn from. Join "
            "the logs to them with Demos.concat; or, if the agent of a rollout is the demonstrator, read it with "
            "Demos.from_episodes(..., intervened=False)."
        )


def check_varies(plan: Layout, demos: Demos) -> None:
    """Raise `ValueError` if a mechanism has nothing to learn: none depends on theta, or a real field is constant."""
    if not plan.free and not plan.networks:
        raise ValueError(
            "LatentSpec: no mechanism depends on theta, because all are tied: without tied=True of the expert's, at "
            "least, there is nothing to fit."
        )
    for factor in plan.factors:
        if not isinstance(factor.mechanism, Gaussian) or factor.field.startswith("opening "):
            continue
        values = column(demos, factor.field).values[demos.mask]
        if constant := np.flatnonzero(values.min(0) == values.max(0)).tolist():
            what = f"dimension {constant[0]} of {factor.field!r}" if factor.width > 1 else f"{factor.field!r}"
            raise ValueError(
                f"LatentSpec: {what} is {values[0, constant[0]].item():.6g} in all rounds, and a Gaussian needs values "
                "that differ: leave it out of the data."
            )


def check_size(latents: list[Any], demos: Demos) -> None:
    """Raise `ValueError` if there are more values of theta than the data bear, or fewer than they name."""
    K = max(k for latent in latents for k in latent.K)
    if demos.num_episodes < 2 * K:
        raise ValueError(
            f"K = {K} is greater than {demos.num_episodes} demonstrations bear, with less than two for each value of "
            f"theta: declare at most {max(demos.num_episodes // 2, 1)}, and better {max(demos.num_episodes // 10, 1)} "
            f"(Episode(K=range(1, {max(demos.num_episodes // 10, 1) + 1})), --K 1:{max(demos.num_episodes // 10, 1)})."
        )
    if demos.labels.max(initial=-1) >= min(k for latent in latents for k in latent.K):
        raise ValueError(
            f"The labels name theta {demos.labels.max()}, counted from 0, so that K must be at least "
            f"{demos.labels.max() + 1}: declare Episode(K=range({demos.labels.max() + 1}, ...))."
        )


def demonstrator_to_imitate(plan: Layout, demos: Demos, imitate: Level | None) -> int:
    """Return the index of the demonstrator to imitate."""
    depends = any(context.given == "demonstrator" for context in plan.factors[0].contexts)
    if not depends:
        if imitate is not None:
            raise ValueError(
                f"imitate={imitate!r:.99}, but the expert is the same for all demonstrators: declare "
                'expert=Table(given=["demonstrator"]), or leave imitate out.'
            )
        return 0
    levels = demos.demonstrator.levels or () if demos.demonstrator is not None else ()
    if imitate not in levels:
        problem = "is not one of them" if imitate is not None else "is missing"
        raise ValueError(
            f"The expert depends on the demonstrator, so say whom to imitate: imitate= {problem}. The demonstrators "
            f"are {', '.join(map(repr, levels[:20]))}{', ...' if len(levels) > 20 else ''}."
        )
    return levels.index(imitate)
