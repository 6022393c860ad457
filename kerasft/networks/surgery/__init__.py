"""Surgery: functions from a Network to a Network that keep its weights, one file each."""

from kerasft.networks.surgery.activation import activation
from kerasft.networks.surgery.dropout import dropout
from kerasft.networks.surgery.fold_batchnorm import fold_batchnorm
from kerasft.networks.surgery.precision import precision
from kerasft.networks.surgery.prune import prune
from kerasft.networks.surgery.resolution import resolution
from kerasft.networks.surgery.stochastic_depth import stochastic_depth
from kerasft.networks.surgery.truncate import truncate

__all__ = [
    "activation",
    "dropout",
    "fold_batchnorm",
    "precision",
    "prune",
    "resolution",
    "stochastic_depth",
    "truncate",
]

# What `--surgery` may name. Whoever needs the other ones calls them.
NAMED = (activation, dropout, fold_batchnorm, prune, stochastic_depth, truncate)
