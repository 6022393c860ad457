"""Finished run folders of the three tasks, made up, with figures from scikit-learn."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from sklearn import metrics as sk

from kerasft.evaluation.score_names import SCORES
from kerasft.settings import stored_config
from kerasft.settings.config import Config

HOSTILE = ["<script>alert(1)</script>", "Käfer „ü“ & 'so'", '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }}", "a" * 90]
CASES = {
    "two": ("single_label", ["ants", "bees"]),
    "ten": ("single_label", [f"digit {k}" for k in range(10)]),
    "sixty": ("single_label", [f"species number {k}" for k in range(60)]),
    "hostile": ("single_label", HOSTILE),
    "labels": ("multi_label", [f"label {k}" for k in range(7)]),
    "hostile_labels": ("multi_label", HOSTILE),
    "angle": ("regression", ["angle"]),
    "targets": ("regression", HOSTILE),
}


def phase(name: str, score: str, *, epochs: int, share: float, values: tuple[float, float]) -> dict:
    before, after = (3.0, 1.0) if name == "01-head" else (1.0, 1.0 if share == 0 else 0.6)
    return {
        "name": name,
        "spec": f"{name[3:]}(epochs={epochs})",
        "seconds": 4.0 + 10 * epochs,
        "epochs": epochs,
        "images_per_second": 80.0 * (epochs > 0),
        "val_before": before,
        "val_after": after,
        f"val_{score}_before": values[0],
        f"val_{score}_after": values[1],
        "accepted": share > 0,
        "share": share,
        "temperature": 1.3 if share == 0.5 else 1.0,
        "cached": False,
        "trainable": 500,
        "frozen": 200_000,
    }


def scored(task: str, classes: list[str], n: int, rng: np.random.Generator) -> tuple[dict, dict]:
    """Arrays as in `predictions.npz`, and their figures as in `metrics.json`, from scikit-learn."""
    c = len(classes)
    if task == "regression":
        labels = rng.normal(10, 5, (n, c)).astype(np.float32)
        values = (labels + rng.normal(0, 1.5, (n, c))).astype(np.float32)
        rows = [(labels[:, k], values[:, k]) for k in range(c)]

        def three(a, b):
            return {
                "mae": sk.mean_absolute_error(a, b),
                "rmse": sk.root_mean_squared_error(a, b),
                "r2": sk.r2_score(a, b),
            }

        def deviations(a, b):
            return float((np.abs(a - b) / a.std(0)).mean())

        figures = {
            **three(labels, values),
            "scaled_mae": deviations(labels, values),
            "loss": 0.2,
            "n": n,
            "per_target": dict(zip(classes, (three(*r) | {"deviation": float(r[0].std())} for r in rows))),
        }
        return {"labels": labels, "values": values}, figures
    logits = rng.normal(0, 1, (n, c))
    if task == "single_label":
        labels = rng.choice(c, n, p=np.linspace(1, 2, c) / np.linspace(1, 2, c).sum()).astype(np.int32)
        logits[np.arange(n), labels] += 0.8 + 0.7 * np.log(c)
        probabilities = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)
        guess, every = probabilities.argmax(-1), np.arange(c)
        table = sk.precision_recall_fscore_support(labels, guess, labels=every, zero_division=0.0)
        per_class = {
            name: dict(zip(("precision", "recall", "f1", "n"), map(float, row)))
            for name, row in zip(classes, zip(*table))
        }
        for row in per_class.values():
            row["n"] = int(row["n"])
        figures = {"accuracy": float((guess == labels).mean()), "macro_f1": float(table[2].mean()), "loss": 0.5, "n": n}
        figures |= {"top5_accuracy": 0.99} if c > 5 else {}
        figures |= {"ece": error(probabilities.max(-1), guess == labels), "per_class": per_class}
        figures["confusion_matrix"] = sk.confusion_matrix(labels, guess, labels=every).tolist()
        return {"labels": labels, "probabilities": probabilities}, figures
    labels = (rng.random((n, c)) < np.linspace(0.1, 0.5, c)).astype(np.float32)
    probabilities = (1 / (1 + np.exp(-(logits + 2.5 * labels - 1.5)))).astype(np.float32)
    thresholds = np.linspace(0.4, 0.6, c).astype(np.float32)
    given = probabilities >= thresholds
    table = sk.precision_recall_fscore_support(labels, given, average=None, zero_division=0.0)
    precisions = [float(sk.average_precision_score(labels[:, k], probabilities[:, k])) for k in range(c)]
    per_class = {
        name: {"average_precision": precisions[k], "precision": float(table[0][k]), "recall": float(table[1][k])}
        | {"f1": float(table[2][k]), "threshold": float(thresholds[k]), "n": int(table[3][k])}
        for k, name in enumerate(classes)
    }
    figures = {"map": float(np.mean(precisions)), "micro_f1": float(sk.f1_score(labels, given, average="micro"))}
    figures |= {"macro_f1": float(table[2].mean()), "exact_match": float((given == labels).all(-1).mean()), "loss": 0.3}
    figures |= {"ece": error(probabilities.ravel(), labels.ravel() > 0), "n": n, "per_class": per_class}
    return {"labels": labels, "probabilities": probabilities, "thresholds": thresholds}, figures


def error(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Expected calibration error, spelt out."""
    total = 0.0
    for low in range(15):
        inside = (probabilities > low / 15) & (probabilities <= (low + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(probabilities[inside].astype(float).mean() - outcomes[inside].mean())
    return float(total)


def health() -> dict:
    """Of two phases, one of them ill, with a block whose name is not harmless."""
    row = {"gradient": 0.25, "weights": 9.0, "update": 0.002, "scale": 1.5, "dead": 0.125}
    head = {"gradient": 0.5, "weights": 2.0, "update": None, "scale": None, "dead": None}
    measured = {"gradient": 0.56, "blocks": {HOSTILE[0]: row, "conv_2": {**row, "dead": 0.75}, "head": head}}
    ill = {"kind": "large_updates", "blocks": ["conv_2"], "detail": "a step changed 13%", "remedy": "Lower lr."}
    phases = {"02-top": [], "03-all": [ill]}
    return {name: {"first": measured, "last": measured, "verdicts": found} for name, found in phases.items()}


def baselines(score: str, task: str) -> dict:
    """What frozen features would reach."""
    row = {score: 0.75, "loss": 0.9, "difference": [0.1, 0.02, 0.18], "loss_difference": [-0.4, -0.6, -0.2]}
    row |= {"seconds": 0.31, "bytes": 120_000} | ({"interval": [0.68, 0.81]} if task == "single_label" else {})
    return {"linear_probe": row, "nearest_neighbours": row}


def run_folder(
    folder: Path,
    task: str,
    classes: list[str],
    *,
    n: int = 150,
    epochs: int = 6,
    findings: int = 0,
    quantile: float | None = None,
) -> dict:
    """A finished run folder; returns its metrics."""
    rng, score = np.random.default_rng(3), SCORES[task] if quantile is None else "pinball"
    arrays, test = scored(task, classes, n, rng)
    _, val = scored(task, classes, n // 2, rng)
    if quantile is not None:
        gaps = arrays["labels"] - arrays["values"]
        test |= {"quantile": quantile, "coverage": float((gaps <= 0).mean())}
        test["pinball"] = float(np.maximum(quantile * gaps, (quantile - 1) * gaps).mean())
        for row in test["per_target"].values():
            row |= {"coverage": test["coverage"], "pinball": test["pinball"]}
    records = [phase("01-head", score, epochs=0, share=1.0, values=(0.2, 0.7))]
    if epochs:
        records.append(phase("02-top", score, epochs=epochs // 3, share=0.0, values=(0.7, 0.7)))
        records.append(phase("03-all", score, epochs=epochs - epochs // 3, share=0.5, values=(0.7, 0.85)))
    metrics = {
        "task": task,
        "classes": classes,
        "backbone": "MobileNet",
        "image_size": 224,
        "augment": "flip",
        "settled": {"augment": "flip"},
        "test": test,
        "val": val,
        "phases": records,
        "gradient_health": health() if epochs else {},
        "baselines": baselines(score, task) if epochs else {},
        "cost": {
            "parameters": 1_234,
            "macs": 5_678_900,
            "images_per_second": {"1": 70.0, "32": 410.0},
            "bytes": 2_500_000,
        },
        "seconds": {"audit": 1.0, "train": 75.0, "evaluate": 2.0, "export": 7.0, "total": 3700.0},
        "peak_rss_mb": 1600.4,
        "weights_sha256": "f1" * 32,
        "export": {"path": "saved_models/my set/1", "max_abs_diff": 8.6e-8, "top1_agreement": 1.0, "n": n},
    }
    ids = [f"test/{classes[i % len(classes)]}/{i}.jpg" for i in range(n)]
    config = Config(data="folder:my set", backbone="MobileNet(alpha=0.25)", weights="none")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    (folder / "run.flags").write_text(stored_config.to_flags(config))
    arrays |= {"ids": np.array(ids), "classes": np.array(classes), "losses": rng.exponential(test["loss"], n)}
    np.savez_compressed(folder / "predictions.npz", **arrays)
    counts = {part: {name: k + 3 for k, name in enumerate(classes)} for part in ("train", "val", "test")}
    rows = [
        {"path": f"{HOSTILE[k % 5]}/{k}", "kind": "corrupt", "verdict": "reject", "detail": "<b>x"}
        for k in range(findings)
    ]
    (folder / "audit.json").write_text(json.dumps({"files": 400, "counts": counts, "findings": rows}))
    if epochs:
        lines = []
        for k in range(epochs):
            row = {
                "phase": "02-top" if k < epochs // 3 else "03-all",
                "epoch": k + 1,
                "step": 10 * k,
                "loss": 1 / (k + 1),
            }
            lines.append(
                json.dumps(
                    {
                        **row,
                        "val_loss": 0.6 + 1 / (k + 2),
                        f"val_{score}": 0.8 - 0.4 / (k + 1),
                        "lr": 1e-3,
                        "seconds": k,
                    }
                )
            )
        (folder / "history.jsonl").write_text("\n".join(lines) + "\n")
    return metrics
