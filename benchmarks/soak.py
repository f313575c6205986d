"""Many short runs in one process: what is compiled again, and what stays in memory.

Each run makes its network, data, rule, solver, nudge and optimiser anew, as a loop
over seeds does, and every second time of a configuration it writes a folder. After
each, the resident memory of the process and the programs compiled since are noted.
"""

import os
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import optax
from _report import options, report

import ctep

_COMPILED = "/jax/core/compile/backend_compile_duration"
_SETTLED = 20  # runs before memory is looked at


def images(seed):
    """Return 40 images of 4 x 4 with 3 classes, and 10 to test."""
    draw = np.random.default_rng(seed)
    x, y = draw.uniform(0, 1, (50, 4, 4, 1)), draw.integers(0, 3, 50)
    x = x.astype(np.float32)
    return (x[:40], y[:40]), (x[40:], y[40:])


def plain(key):
    return ctep.mlp((16, 8, 8, 3), feedback=0.3, key=key), {}


def adam(key):
    network = ctep.mlp((16, 8, 3), feedback=0.3, activation=ctep.Sigmoid(), key=key)
    return network, {
        "rule": ctep.OneSided(0.02),
        "solver": ctep.Sweeps(100, rtol=1e-4),
        "optimizer": optax.adam(1e-3),
    }


def chained(key):
    rate = optax.cosine_decay_schedule(1e-2, 4)
    return ctep.mlp((16, 8, 8, 3), feedback=0.2, key=key), {
        "rule": ctep.Centered(0.1),
        "nudge": ctep.OutputError(ctep.SquaredError()),
        "optimizer": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate, 0.9)),
    }


def convolutional(key):
    network = ctep.vgg(
        (2,), classes=3, input_shape=(4, 4, 1), feedback=0.3, key=key,
        activation=ctep.Tanh(),
    )  # fmt: skip
    return network, {
        "rule": ctep.RandomSign(0.1),
        "nudge": ctep.OutputError() + 0.1 * ctep.LocalError((1,)),
        "pipeline": ctep.data.Pipeline(flip=0.5),
        "optimizer": optax.adamw(1e-3),
        "carry_state": True,
    }


def continuous(key):
    return ctep.mlp((16, 6, 3), feedback=0.3, key=key), {
        "rule": ctep.Implicit(),
        "solver": ctep.ODE(t1=50.0),
        "optimizer": optax.sgd(0.1),
    }


CONFIGURATIONS = plain, adam, chained, convolutional, continuous


def resident():
    """Return the bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main():
    args = options(__doc__).parse_args()
    args.dataset = "none: random numbers"
    count, compiled = 30 if args.toy else 300, []

    def listen(event, seconds, **_):
        if event == _COMPILED:
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    configurations = CONFIGURATIONS[: 2 if args.toy else None]
    rows, kinds = [], len(configurations)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            build, before = configurations[i % kinds], len(compiled)
            key = jax.random.key(args.seed + i)
            network, settings = build(key)
            out = Path(folder, str(i)) if i // kinds % 2 else None
            result = ctep.fit(
                network, images(args.seed + i), epochs=2, batch_size=16, probe=8,
                key=key, out=out, watch=ctep.Watch(unsettled=1.0), progress=False,
                **settings,
            )  # fmt: skip
            assert result.status == "completed"
            rows.append((build.__name__, len(compiled) - before, resident()))
            if i < 2 * kinds or (i + 1) % 20 == 0:
                print(f"  {i + 1}: {rows[-1][2] / 2**20:.0f} MiB, compiled "
                      f"{rows[-1][1]}", flush=True)  # fmt: skip
    # A folder is first written in the second cycle.
    later = {name: 0 for name, *_ in rows}
    for name, programs, _ in rows[kinds:]:
        later[name] += programs
    again, growth = sum(later.values()), rows[-1][2] / rows[_SETTLED - 1][2] - 1
    line = (
        f"{count} runs of {kinds} configurations in one process, all objects made "
        f"anew: {again} programs compiled after the first cycle; resident memory "
        f"{rows[_SETTLED - 1][2] / 2**20:.0f} MiB after run {_SETTLED}, "
        f"{rows[-1][2] / 2**20:.0f} MiB after the last: {100 * growth:+.1f} %"
    )
    details = {
        "compiled_later": later,
        "compiled_first": sum(row[1] for row in rows[:kinds]),
        "mebibytes": [round(row[2] / 2**20, 1) for row in rows],
    }
    report("soak", line, args, value=[growth, again], details=details)
    sys.exit(again > 0 or growth >= 0.05)


if __name__ == "__main__":
    main()
