"""Names of the layers that the rest of the library looks up in a network."""

# Scales the pixels as the backbone was trained on them.
PREPROCESS = "preprocess"

# Pools the backbone's output to one vector an image.
FEATURES = "features"

# Standardises the pooled features with the statistics of the training set.
STANDARDISE = "standardise"

# The last dense layer: one logit a class, or one standardised value a target.
LOGITS = "logits"

# Brings the values of a regression back to the units of their targets.
VALUES = "values"
