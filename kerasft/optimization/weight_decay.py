"""Weight decay: which variables it leaves alone."""

import re

import keras

# By the variable's own name: MultiHeadAttention and GRU have biases of two dimensions, LayerNormalization scales.
_OFFSETS_AND_SCALES = re.compile(r"(^|_)(bias|beta|gamma|scale)($|_)|_?tokens?$")
# Anywhere in its path: a position embedding is often a layer of that name with a table inside.
_POSITIONS = re.compile(r"(^|[/_])pos(ition)?(al)?_(emb|enc|bias)")


def excluded(variables: list[keras.Variable]) -> list[keras.Variable]:
    """The variables that weight decay leaves alone: all but the kernels and tables that inputs are multiplied with.

    Left out are those of fewer than two dimensions (biases, normalisation, LayerScale, the exponent of GeM), and by name
    biases and scales of more dimensions, position embeddings and the tokens of vision transformers. Decay would pull
    them to 0 without making the network any simpler (He et al. 2019, section 3.1).
    """
    return [
        variable
        for variable in variables
        if len(variable.shape) < 2
        or _OFFSETS_AND_SCALES.search(variable.name)
        or _POSITIONS.search(variable.path.lower())
    ]
