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

# How the names of the layers begin that are put into a network as adapters.
ADAPTER_PREFIX = "kerasft_adapter_"

# How the names of the layers end that round to 8 bits.
EIGHT_BITS_SUFFIX = "_in_8_bits"

# The mean over an image and its mirror image.
MIRRORED = "mirrored_average"
