"""The score of each task and its name. The report uses them too, so nothing here imports TensorFlow."""

# The score of each task, as `metrics.json` names it.
SCORES = {"single_label": "accuracy", "multi_label": "map", "regression": "mae"}
# The same scores in words.
TITLES = {"accuracy": "accuracy", "map": "mean average precision", "mae": "mean absolute error"}
