"""Draw the figures of the documentation from the JSON lines in docs/results."""

import json

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from _figures import ACCURACY, RESULTS

INK, ACCENT = "#333333", "#3f51b5"
# Line styles tell the curves apart without colour.
STYLES = {"recipe": ("o", "-", ACCENT), "twin": ("s", "--", INK)}
# Published best accuracies: column of `ACCURACY`, line style and name.
LEVELS = (
    (1, "--", "published"),
    (3, ":", "published, with residual"),
    (4, "-.", "published backprop"),
)
NAMES = {"recipe": "equilibrium propagation", "twin": "its backprop twin"}


def losses(path):
    """Return per side the losses, (seeds, epochs)."""
    found = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        seeds = found.setdefault(record["who"], {})
        seeds.setdefault(record["seed"], []).append(record["loss"])
    return {who: np.array(list(seeds.values())) for who, seeds in found.items()}


def curve(ax, values, who, name):
    marker, style, color = STYLES[who]
    epochs = np.arange(1, values.shape[1] + 1)
    ax.plot(epochs, values.mean(0), style, marker=marker, color=color, label=name)
    if len(values) > 1:
        ax.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.15)


def dress(ax):
    """Give an axis of epochs its label and whole ticks, and no frame."""
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(
        mpl.ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10])
    )
    ax.spines[["top", "right"]].set_visible(False)


def twins(panels):
    """Draw recipes with their twins; `panels` are titles by the name of the result."""
    size = (3.1 * len(panels), 3.2)
    fig, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for ax, (name, title) in zip(axes[0], panels.items(), strict=True):
        for who, values in losses(RESULTS / f"{name}.jsonl").items():
            curve(ax, values, who, NAMES[who])
        ax.set_title(title, fontsize=10)
        dress(ax)
    axes[0, 0].set_ylabel("training loss (nats)")
    axes[0, 0].legend(frameon=False, fontsize=8)
    fig.tight_layout()
    return fig


def compared(paths, keys):
    """Draw entries of the histories of two runs, one panel per entry.

    Args:
        paths: of the histories, by what the legend calls them.
        keys: of the entries, with the label and the factor of their axis.
    """
    size = (4.3 * len(keys), 3.2)
    fig, axes = plt.subplots(1, len(keys), figsize=size, squeeze=False)
    for ax, (key, (label, factor)) in zip(axes[0], keys.items(), strict=True):
        for (name, path), style in zip(paths.items(), ("-", "--"), strict=True):
            records = [json.loads(line) for line in path.read_text().splitlines()]
            epochs = [record["epoch"] for record in records]
            values = [factor * record[key] for record in records]
            color = ACCENT if style == "-" else INK
            marker = "o" if len(epochs) < 10 else None
            ax.plot(epochs, values, style, marker=marker, color=color, label=name)
        dress(ax)
        ax.set_ylabel(label)
    axes[0, 0].legend(frameon=False, fontsize=8)
    fig.tight_layout()
    return fig


def runs(recipe):
    """Return the test accuracies of a recipe in percent, (seeds, epochs)."""
    found = sorted(RESULTS.glob(f"{recipe}-seed*.jsonl"))
    records = [map(json.loads, path.read_text().splitlines()) for path in found]
    return np.array([[100 * record["test_accuracy"] for record in r] for r in records])


def accuracies(panels, floor=None):
    """Draw the test accuracy of recipes over the epochs, with published levels.

    Args:
        panels: titles by the name of the recipe.
        floor: smallest accuracy that is shown in all panels, if one is given.
    """
    share, size = floor is not None, (3.3 * len(panels), 3.2)
    fig, axes = plt.subplots(1, len(panels), figsize=size, sharey=share)
    for ax, (recipe, title) in zip(axes, panels.items(), strict=True):
        values = runs(recipe)
        epochs = np.arange(1, values.shape[1] + 1)
        ax.plot(epochs, values.mean(0), color=ACCENT, label=f"ctep, {recipe}")
        if len(values) > 1:
            low, high = values.min(0), values.max(0)
            ax.fill_between(epochs, low, high, color=ACCENT, alpha=0.2)
        for column, style, name in LEVELS:
            value = ACCURACY[recipe][column].partition("±")[0]
            if value != "-":
                ax.axhline(float(value), ls=style, color=INK, lw=1, label=name)
        ax.set_ylim(floor, None)
        ax.set_title(title, fontsize=10)
        dress(ax)
        ax.legend(frameon=False, fontsize=8, loc="lower right")
    axes[0].set_ylabel("test accuracy (%)")
    fig.tight_layout()
    return fig


def idea():
    """Draw what equilibrium propagation does, with the energy of one unit.

    E = s^2/2 + s^4/4 - w x s, and the cost C = (s - y)^2 / 2.
    """
    drive, target, beta = 0.35, 1.25, 0.9
    s = np.linspace(-0.35, 1.55, 400)
    free, cost = s**2 / 2 + s**4 / 4 - drive * s, (s - target) ** 2 / 2
    pulled = free + beta * cost
    fig, axes = plt.subplots(1, 3, figsize=(9.6, 2.9), sharex=True)
    for ax, title in zip(
        axes,
        ("1. free: the state comes to rest", "2. nudged: the cost pulls, it rests anew",
         "3. what comes back is the difference"),
        strict=True,
    ):  # fmt: skip
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("state $s$ of one unit")
        ax.set_yticks([])
        ax.spines[["top", "right"]].set_visible(False)
    lowest = [np.argmin(free), np.argmin(pulled)]
    axes[0].plot(s, free, color=INK)
    axes[0].plot(s[lowest[0]], free[lowest[0]], "o", color=INK)
    axes[0].annotate(
        "", (s[lowest[0]] - 0.06, free[lowest[0]] + 0.03), (-0.25, 0.13),
        arrowprops={"arrowstyle": "->", "color": INK, "ls": "--"},
    )  # fmt: skip
    axes[0].text(-0.2, 0.5, "energy $E(s, x)$", color=INK)
    axes[0].text(s[lowest[0]], -0.19, "$s(0)$: the prediction", ha="center", color=INK)
    axes[0].set_ylim(-0.25, 0.8)
    axes[1].plot(s, free, color=INK, lw=1, ls=":")
    axes[1].plot(s, pulled, color=ACCENT)
    axes[1].plot(s[lowest[1]], pulled[lowest[1]], "s", color=ACCENT)
    axes[1].axvline(target, color=INK, lw=1, ls="--")
    axes[1].text(target + 0.03, 0.9, "target", color=INK)
    axes[1].text(0.1, 0.72, r"$E + \beta C$", color=ACCENT)
    axes[1].text(s[lowest[1]], 0.08, r"$s(\beta)$", ha="center", color=ACCENT)
    axes[1].set_ylim(-0.25, 1.05)
    ax, (low, high) = axes[2], s[lowest]
    ax.plot([low], [0.5], "o", color=INK)
    ax.plot([high], [0.5], "s", color=ACCENT)
    ax.annotate(
        "", (high - 0.03, 0.5), (low + 0.03, 0.5),
        arrowprops={"arrowstyle": "->", "color": ACCENT},
    )  # fmt: skip
    ax.text(low, 0.37, "$s(0)$", ha="center", color=INK)
    ax.text(high, 0.37, r"$s(\beta)$", ha="center", color=ACCENT)
    ax.text((low + high) / 2, 0.58, "increment $d$", ha="center", color=ACCENT)
    formula = (
        r"$\frac{\mathrm{d}L}{\mathrm{d}\theta} \approx \frac{1}{\beta}\left["
        r"\frac{\partial E}{\partial\theta}(s(\beta)) - "
        r"\frac{\partial E}{\partial\theta}(s(0))\right]$"
    )
    ax.text(0.6, 0.83, formula, ha="center", fontsize=12, color=INK)
    ax.text(
        0.6, 0.13, "each weight sees its own two ends alone", ha="center", fontsize=9
    )
    ax.set_ylim(0, 1.05)
    fig.tight_layout()
    return fig


def depth_feedback(rows):
    """Draw where equilibrium propagation parts from its twin, over feedback x depth."""
    # Of a network that is trained as well, what was found at its start is the same.
    rests = [r for r in rows if r["who"] == "rest" and r["settled"]] or [
        r | r["start"] for r in rows if r["who"] == "network" and "exact" in r["start"]
    ]
    depths = sorted({r["depth"] for r in rests})
    marks = dict(zip(depths, "osD^vP", strict=False))
    edges = {"twin": ("the twin's edge of chaos", ACCENT),
             "network": ("its own edge of chaos", INK)}  # fmt: skip
    edges = {k: v for k, v in edges.items() if any(r["edge"] == k for r in rests)}
    count = len(edges) + 1
    fig, axes = plt.subplots(1, count, figsize=(4 * count, 3.4), squeeze=False)
    axes = axes[0]
    for ax, (edge, (name, color)) in zip(axes, edges.items(), strict=False):
        for depth in depths:
            own = [r for r in rests if r["depth"] == depth and r["edge"] == edge]
            x = [r["feedback"] * depth for r in own]
            y = [r["twin"]["median"] for r in own]
            shade = 0.35 + 0.65 * depths.index(depth) / len(depths)
            ax.plot(x, y, marks[depth] + "-", color=color, alpha=shade, lw=0.8,
                    ms=5, label=f"{depth} layers")  # fmt: skip
        ax.set_title(f"weights at {name}", fontsize=10)
        ax.set_ylim(-0.1, 1.05)
        ax.legend(frameon=False, fontsize=7)
    axes[0].set_ylabel("cosine with the twin's gradient\n(median layer, at the start)")
    twins = {
        (r["depth"], r["edge"], r["feedback"] if r["edge"] == "network" else 0.0): r
        for r in rows if r["who"] == "twin"
    }  # fmt: skip
    for r in rows:
        key = r["depth"], r["edge"], r["feedback"] if r["edge"] == "network" else 0.0
        if r["who"] != "network" or key not in twins or "loss" not in r["training"]:
            continue
        apart, color = (
            [100 * v["training"]["test_accuracy"] for v in (r, twins[key])],
            ACCENT if r["edge"] == "twin" else INK,
        )
        axes[-1].plot(r["feedback"] * r["depth"], apart[0] - apart[1],
                     marks.get(r["depth"], "x"), color=color, ms=6)  # fmt: skip
    axes[-1].axhline(0, color=INK, lw=1, ls="--")
    axes[-1].set_title("after a short training", fontsize=10)
    axes[-1].set_ylabel("test accuracy less the twin's (points)")
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlabel("feedback x depth")
        ax.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    return fig


def main():
    mpl.rcParams["svg.hashsalt"] = "ctep"  # the same file for the same numbers
    results, pictures = RESULTS, RESULTS.parent / "assets" / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    figures = {
        "idea": idea(),
        "twins-fre-vgg11-he": twins(
            {
                "twins-fre-vgg11-he": "as the recipe has it",
                "twins-fre-vgg11-he-feedback-0.03": "feedback 0.03",
                "twins-fre-vgg11-he-precision-bfloat16": "products in bfloat16",
                "twins-fre-vgg11-he-sweeps-1": "one sweep per phase",
            }
        ),
        "twins-others": twins(
            {
                "twins-fre-vgg13-he": "fre-vgg13-he",
                "twins-fre-resnet13-he": "fre-resnet13-he",
            }
        ),
        "depth": accuracies({"fre-10x64": "10 layers", "fre-20x64": "20 layers"}, 88),
        "fre-accuracy": accuracies(
            {
                "fre-2x512": "MNIST, 2 x 512",
                "fre-3x512": "MNIST, 3 x 512",
                "fre-5x64": "CIFAR-10, 5 x 64",
            }
        ),
    }
    pairs = {
        "local-errors": (
            {
                "local errors (vgg7-le)": "vgg7-le-scale-0.25-seed0",
                "output error alone (vgg7)": "vgg7-scale-0.25-seed0",
            },
            {"train_accuracy": ("training accuracy (%)", 100)},
        ),
        "full-width": (
            {
                NAMES["recipe"]: "fre-vgg11-he-precision-tensorfloat32-seed0",
                NAMES["twin"]: "fre-vgg11-he-twin-precision-tensorfloat32-seed0",
            },
            {
                "loss": ("training loss (nats)", 1),
                "test_accuracy": ("test accuracy (%)", 100),
            },
        ),
    }
    for name, (files, keys) in pairs.items():
        paths = {who: results / f"{file}.jsonl" for who, file in files.items()}
        if all(path.is_file() for path in paths.values()):
            figures[name] = compared(paths, keys)
    if (path := results / "depth-feedback.jsonl").is_file():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        figures["depth-feedback"] = depth_feedback(rows)
    for name, figure in figures.items():
        figure.savefig(pictures / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
