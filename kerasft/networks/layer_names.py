"""Names of the layers that the rest of the library looks up in a network."""

# Scales the pixels as in the pretraining of the backbone.
PREPROCESS = "preprocess"

# Pools the output of the backbone to one vector an image; of several depths, joins their pooled vectors.
FEATURES = "features"

# Where the head sees several depths, each has a pooling layer: this name and the number of the depth, from 1 on.
POOLED = "pooled_"

# Standardises the pooled features with the statistics of the training set.
STANDARDISE = "standardise"

# The last dense layer: one logit a class, or one standardised value a target.
LOGITS = "logits"

# Rescales the values of a regression to the units of the targets.
VALUES = "values"

# The mean over an image and its mirror image.
MIRRORED = "mirrored_average"
