"""The discrete networks of the bnlearn repository: `CausalModel` beside pyAgrum's lazy propagation, in one run.

For each network, as pgmpy ships it: a cold query (a new model and a new inference; one variable asked, two seen), the
same query again, 1,000 queries of one shape in one call of the compiled query, and the marginals of all variables.
Figures are CPU seconds of one thread; a ratio above 1 says that undelude is faster. Answers are compared first.
"""

import argparse
import importlib.resources
import json
import os
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyagrum as gum

import undelude as ud
from undelude._versions import versions
from undelude.causal import from_pgmpy, to_pyagrum

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # pgmpy deprecates parts of itself as it is imported
    from pgmpy.utils import get_example_model

TOLERANCE = 1e-5
# Queries that pyAgrum answers one after the other, of the 1,000.
MAX_SINGLE = 50
MAX_MARGINALS = 300
# The columns of the table: heading, figure, unit and width.
COLUMNS = (
    ("cold ms", "cold", 1e3, 9),
    ("warm ms", "warm", 1e3, 9),
    ("batch us", "batch", 1e6, 10),
    ("marginals", "marginals", 1e3, 11),
)


def networks() -> list[str]:
    """Return the names of the networks, the smallest first."""
    folder = importlib.resources.files("pgmpy") / "utils" / "example_models"
    files = sorted((x for x in folder.iterdir() if x.name.endswith(".bif.gz")), key=lambda x: len(x.read_bytes()))
    return [x.name.removesuffix(".bif.gz") for x in files]


def seconds(f: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the least CPU time of a call, and the last result."""
    least = np.inf
    for _ in range(repeats):
        started = time.process_time()
        result = jax.block_until_ready(f())
        least = min(least, time.process_time() - started)
    return least, result


def measure(model: ud.CausalModel, seed: int, batch: int) -> dict[str, Any]:
    """Return the figures of one network."""
    rng = np.random.default_rng(seed)
    net = to_pyagrum(model)
    # Values seen are drawn from the model, so that they are possible together.
    drawn = ud.causal.sample(model, jax.random.key(seed), batch)
    asked, *seen = (model.names[i] for i in rng.permutation(len(model.names))[:3])
    rows = [{name: drawn[name].tolist()[i] for name in seen} for i in range(batch)]

    def ours(i: int = 0) -> np.ndarray:
        return np.asarray(model.query(asked, see=rows[i]))

    def lazy() -> gum.LazyPropagation:
        engine = gum.LazyPropagation(net)
        engine.setTargets({asked})
        engine.setEvidence(dict(rows[0]))
        return engine

    def theirs(engine: gum.LazyPropagation, i: int = 0) -> np.ndarray:
        for name, x in rows[i].items():
            engine.chgEvidence(name, x)
        engine.makeInference()
        return engine.posterior(asked).toarray()

    found: dict[str, Any] = {"variables": len(model.names)}
    structure = model.structure
    found["bytes"] = structure.terms((asked,), tuple(seen), ()).plan.num_bytes
    structure.terms.cache_clear()
    cold, answer = seconds(ours)
    warm, _ = seconds(ours, 5)
    peer_cold, peer = seconds(lambda: theirs(lazy()))
    engine = lazy()
    # Two queries, so that the evidence changes each time.
    peer_warm, _ = seconds(lambda: theirs(engine, 1) is theirs(engine, 0), 3)
    compile_seconds, compiled = seconds(lambda: model.compile(asked, see=seen))
    values = np.array([[row[name] for name in seen] for row in rows], object)
    first, answers = seconds(lambda: compiled(values))
    many, _ = seconds(lambda: compiled(values), 3)
    single = [seconds(lambda i=i: theirs(engine, i)) for i in range(min(batch, MAX_SINGLE))]
    gaps = [np.abs(answer - peer).max(), *(np.abs(answers[i] - x).max() for i, (_, x) in enumerate(single))]
    found |= {
        "gap": float(max(gaps)),
        "cold": cold,
        "warm": warm,
        "compile": compile_seconds + first,
        "batch": many / batch,
        "peer cold": peer_cold,
        "peer warm": peer_warm / 2,
        "peer batch": float(np.mean([x for x, _ in single])),
    }
    if len(model.names) <= MAX_MARGINALS:
        found["marginals"], mine = seconds(lambda: [np.asarray(x) for x in model.query_each().values()])

        def all_marginals() -> list[np.ndarray]:
            engine = gum.LazyPropagation(net)
            engine.makeInference()
            return [engine.posterior(name).toarray() for name in model.names]

        found["peer marginals"], other = seconds(all_marginals)
        found["gap"] = max(found["gap"], *(float(np.abs(x - y).max()) for x, y in zip(mine, other, strict=True)))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", help="their names; by default all")
    parser.add_argument("--batch", type=int, default=1000, help="queries in a call of the compiled one")
    parser.add_argument("--seed", type=int, default=0, help="of the variables and values")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    args = parser.parse_args()
    gum.setNumberOfThreads(1)
    about = {"versions": versions() | {"pyagrum": version("pyagrum")}, "load_average": os.getloadavg()[0]}
    print(about)
    columns = "".join(f"{name:>{width}}{'to peer':>9}" for name, _, _, width in COLUMNS)
    print(f"{'network':12}{'vars':>6}{columns}{'gap':>9}")
    results = {}
    for name in args.networks or networks():
        model = from_pgmpy(get_example_model(name))
        try:
            x = results[name] = measure(model, args.seed, args.batch)
        except ValueError as error:
            results[name] = {"refused": str(error)}
            print(f"{name:12} refused: {error}", flush=True)
            continue
        line = f"{name:12}{x['variables']:6}"
        for _, key, unit, width in COLUMNS:
            known = key in x
            line += f"{x[key] * unit:{width}.3g}" if known else " " * width
            line += f"{x['peer ' + key] / x[key]:9.3g}" if known else " " * 9
        print(f"{line}{x['gap']:9.1e}" + ("" if x["gap"] <= TOLERANCE else "  DIFFERS"), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps({**about, "arguments": vars(args), "networks": results}, indent=2))


if __name__ == "__main__":
    main()
