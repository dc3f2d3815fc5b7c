"""Long episodes: time and memory of an update, and symbols acted per second, as T grows. Each in a process of its own.

python benchmarks/long.py                          about ten minutes
python benchmarks/long.py --rounds 20 200          without the long ones
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time

BATCH_SIZE, UPDATES = 64, 3
# Episodes: `microbatch_size` for T above `LONG`. Shorter episodes are not split.
AT_A_TIME = {"lstm": 8, "linear": 4, "transformer": 1}
LONG = 1000


def measure(name: str, num_rounds: int, num_devices: int) -> dict[str, float]:
    """Return seconds of an update and of a rollout, and the peak memory of this process."""
    import jax

    jax.config.update("jax_num_cpu_devices", num_devices)
    import undelude as ud

    kinds = {"lstm": ud.LSTMAgent, "linear": ud.LinearRecurrentAgent, "transformer": ud.TransformerAgent}
    process = ud.tasks.bandit(num_rounds=num_rounds)
    agent = kinds[name](process, key=jax.random.key(0))
    seconds: list[float] = []
    run = ud.teach(
        process,
        agent,
        ud.Counterfactual(),
        key=jax.random.key(1),
        steps=UPDATES,
        batch_size=BATCH_SIZE,
        microbatch_size=AT_A_TIME[name] if num_rounds > LONG else None,
        log_every=1,
        on_log=lambda state, row: seconds.append(row["seconds"]),
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    act = {"key": jax.random.key(2), "num_episodes": BATCH_SIZE}
    jax.block_until_ready(ud.rollout(process, run.agent, **act))
    started = time.perf_counter()
    jax.block_until_ready(ud.rollout(process, run.agent, **act).actions)
    acting = time.perf_counter() - started
    return {
        "seconds": min(b - a for a, b in itertools.pairwise(seconds)),
        "compile_seconds": run.compile_seconds,
        "GiB": memory,
        "symbols_a_second": 2 * num_rounds * BATCH_SIZE / acting,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", choices=AT_A_TIME, default=[*AT_A_TIME])
    parser.add_argument("--rounds", type=int, nargs="+", default=[20, 100, 200, 2000])
    parser.add_argument("--devices", type=int, default=2, help="CPU devices, one a core")
    parser.add_argument("--one", nargs=2, metavar=("AGENT", "T"), help="in this process, as JSON")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]), args.devices)))
        return
    print(f"batch {BATCH_SIZE}, {args.devices} devices; acting is one rollout of the batch")
    head = ("T", "s per update", "ms a round", "GiB at most", "symbols/s", "compile, s")
    print(f"{'agent':12}" + "".join(f"{x:>13}" for x in head))
    for name in args.agents:
        for num_rounds in args.rounds:
            command = [sys.executable, __file__, "--devices", str(args.devices), "--one", name, str(num_rounds)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name:12}{num_rounds:13}  failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
                continue
            row = json.loads(done.stdout.splitlines()[-1])
            each = 1e3 * row["seconds"] / num_rounds
            print(
                f"{name:12}{num_rounds:13}{row['seconds']:13.3f}{each:13.3f}{row['GiB']:13.2f}"
                f"{row['symbols_a_second']:13,.0f}{row['compile_seconds']:13.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
