"""Queries of a chain of 200 binary variables: `CausalModel`, pyAgrum and pgmpy in one run.

One variable in the middle is asked, the first is done, every tenth is seen. The peers are given the mutilated chain.
"""

import argparse
import itertools
import json
import os
import time
import warnings
from importlib.metadata import version

import jax
import numpy as np
import pyagrum as gum

import undelude as ud
from undelude._versions import versions

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # pgmpy deprecates parts of itself as it is imported
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination
    from pgmpy.models import DiscreteBayesianNetwork

TOLERANCE = 1e-5


def chain(length: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the prior of the first variable and the transitions of the others."""
    return [rng.dirichlet([1, 1])] + [rng.dirichlet([1, 1], 2) for _ in range(length - 1)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=200, help="variables of the chain")
    parser.add_argument("--batch", type=int, default=10_000, help="queries in a call of the compiled one")
    parser.add_argument("--repeats", type=int, default=15, help="timings of each")
    parser.add_argument("--seed", type=int, default=0, help="of tables and values")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, in seconds a query")
    args = parser.parse_args()
    rng, names = np.random.default_rng(args.seed), [f"X{i}" for i in range(args.length)]
    tables = chain(args.length, rng)
    asked, done, seen = names[args.length // 2], names[0], names[5::10]
    values = rng.integers(2, size=(args.batch, len(seen)))
    gum.setNumberOfThreads(1)

    model = ud.CausalModel(
        ud.Variable(name, (0, 1), parents, table=table)
        for name, parents, table in zip(names, [(), *((x,) for x in names)], tables, strict=False)
    )
    net = gum.fastBN("->".join(f"{name}[2]" for name in names))
    for name, table in zip(names, tables, strict=True):
        net.cpt(name)[:] = table
    lazy = gum.LazyPropagation(net)
    lazy.setTargets({asked})
    lazy.setEvidence(dict.fromkeys([done, *seen], 0))
    peer = DiscreteBayesianNetwork(list(itertools.pairwise(names)))
    peer.add_cpds(TabularCPD(names[0], 2, tables[0][:, None]))
    for parent, name, table in zip(names, names[1:], tables[1:], strict=False):
        peer.add_cpds(TabularCPD(name, 2, table.T, [parent], [2]))
    elimination = VariableElimination(peer.do([done]))

    def query(i: int) -> np.ndarray:
        return model.query(asked, see=dict(zip(seen, values[i].tolist(), strict=True)), do={done: 1})

    def pyagrum(i: int) -> np.ndarray:
        for name, x in ((done, 1), *zip(seen, values[i].tolist(), strict=True)):
            lazy.chgEvidence(name, x)
        lazy.makeInference()
        return lazy.posterior(asked).toarray()

    def pgmpy(i: int) -> np.ndarray:
        evidence = {done: 1, **dict(zip(seen, values[i].tolist(), strict=True))}
        return elimination.query([asked], evidence, show_progress=False).values

    started = time.perf_counter()
    compiled = model.compile(asked, see=seen, do=done)
    answers = jax.block_until_ready(compiled(values, [1]))
    set_up = time.perf_counter() - started
    ways = {
        f"undelude, compiled, {args.batch:,} queries in a call": (
            args.batch,
            lambda i: jax.block_until_ready(compiled(values, [1])),
        ),
        "undelude, query": (1, query),
        "pyAgrum": (1, pyagrum),
        "pgmpy": (1, pgmpy),
    }
    for name, (size, way) in ways.items():
        gap = max(float(np.abs(way(i) - answers[i]).max()) for i in range(3)) if size == 1 else 0.0
        if not gap <= TOLERANCE:
            raise SystemExit(f"{name} and the compiled query differ by {gap:.1e}: nothing to time.")
    seconds = {name: [] for name in ways}
    for i in range(args.repeats):
        for name, (size, way) in ways.items():
            way(2 * i % args.batch)
            started = time.perf_counter()
            way((2 * i + 1) % args.batch)
            seconds[name].append((time.perf_counter() - started) / size)
    about = {"versions": versions() | {x: version(x) for x in ("pyagrum", "pgmpy")}, "load_average": os.getloadavg()[0]}
    print(about, f"compiling took {set_up:.2f} s; all agree within {TOLERANCE:.0e}", sep="\n")
    print(f"{'milliseconds a query':50}{'median':>10}{'min':>10}{'max':>10}{'to query':>11}")
    ours = np.median(seconds["undelude, query"])
    for name, x in seconds.items():
        times = "".join(f"{1e3 * y:10.4g}" for y in (np.median(x), min(x), max(x)))
        print(f"{name:50}{times}{np.median(x) / ours:11.3g}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({**about, "arguments": vars(args), "set_up": set_up, "seconds": seconds}, file, indent=2)


if __name__ == "__main__":
    main()
