"""Fit a model with networks by gradient steps, and choose its latent by held-out data."""

import numpy as np
from jaxtyping import Array, Key

from undelude._types import OnProgress
from undelude.offline._data.demos import Demos
from undelude.offline._fitting import gradient
from undelude.offline._fitting.gradient import Training
from undelude.offline._fitting.result import Fit, as_fit
from undelude.offline._fitting.selection import (
    Candidate,
    Tried,
    choose,
    compared,
    count_reached,
)
from undelude.offline._model.latent import Episode
from undelude.offline._model.spec import LatentSpec, Layout


def fit_networks(
    spec: LatentSpec,
    plan: Layout,
    demos: Demos,
    parts: tuple[Demos, Demos],
    latent: Episode,
    starts: int,
    training: Training,
    key: Key[Array, ""],
    demonstrator: int,
    on_progress: OnProgress | None,
) -> Fit:
    """Return a fit by gradients, each start as it was when the held-out demonstrations were likeliest."""
    K = np.repeat(latent.K, starts)
    on_epoch = on_progress and (lambda done: on_progress(done, training.epochs, type(latent).__name__))
    trained = gradient.train(plan, parts[0], parts[1], K, training, key=key, on_epoch=on_epoch)
    fitted = gradient.log_likelihoods(plan, trained.parameters, trained.networks, parts[0]).sum(-1)
    tried: list[Tried] = []
    for k in latent.K:
        totals = np.where(k == K, trained.held_out.sum(-1), -np.inf)
        own, run = np.sort(totals[k == K])[::-1], int(totals.argmax())
        scores = trained.held_out[run]
        candidate = Candidate(
            latent=type(latent).__name__,
            K=k,
            log_likelihood=float(fitted[run]),
            held_out=float(scores.mean()),
            behind=None,
            bic=float("nan"),
            starts=tuple(own.tolist()),
            reached_best=count_reached(own, parts[1].num_episodes),
            num_unconverged=int((trained.since[k == K] < training.patience).sum()),
        )
        tried.append((candidate, scores))
    candidates = compared(tried)
    best = choose(candidates, "held_out")
    totals = np.where(best.K == K, trained.held_out.sum(-1), -np.inf)
    run = int(totals.argmax())
    parameters, networks = gradient.pick((trained.parameters, trained.networks), run, best.K)
    return as_fit(spec, plan, demos, best, parameters, networks, totals[best.K == K], candidates, demonstrator)
