"""The figure of a run that has been trained to its end, from its history."""

import numpy as np
from _report import keep, report

_KEYS = (
    "epoch loss train_accuracy test_accuracy sweeps unsettled residual "
    "gradient_cosine seconds"
).split()


def save(name, history, args, **details):
    """Keep a history, and report the accuracy of its best and of its final epoch.

    Args:
        name: of the run.
        history: of all of its epochs.
        args: the options of the benchmark.
        **details: what else is worth keeping of the run.
    """
    history = [{k: record[k] for k in _KEYS} for record in history]
    keep(name, history, args)
    best = max(history, key=lambda record: record["test_accuracy"])
    seconds = [r["seconds"] for r in history]
    details |= {
        "epochs": len(history),
        "best_test_accuracy": best["test_accuracy"],
        "best_epoch": best["epoch"],
        "final_test_accuracy": history[-1]["test_accuracy"],
        "final_train_accuracy": history[-1]["train_accuracy"],
        "seconds": sum(seconds),
        "seconds_per_epoch": float(np.median(seconds)),
        "mean_sweeps": float(np.mean([r["sweeps"] for r in history])),
        "worst_unsettled": max(r["unsettled"] for r in history),
        # None where the gradient vanished.
        "worst_gradient_cosine": min(r["gradient_cosine"] or 0.0 for r in history),
    }
    line = (
        f"{name}, {len(history)} epochs: test accuracy "
        f"{100 * best['test_accuracy']:.2f} % at the best epoch ({best['epoch']}), "
        f"{100 * history[-1]['test_accuracy']:.2f} % at the final one; "
        f"{details['seconds']:.0f} s in all, {details['mean_sweeps']:.1f} sweeps, "
        f"unsettled at most {100 * details['worst_unsettled']:.3g} %, gradient cosine "
        f"at least {details['worst_gradient_cosine']:.4f}"
    )
    value = [best["test_accuracy"], history[-1]["test_accuracy"]]
    report(f"accuracy-{name}", line, args, value=value, details=details)
