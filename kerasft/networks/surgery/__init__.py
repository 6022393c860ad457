"""Surgery: functions from a Network to a Network that keep its weights, one file each."""

from kerasft.networks.surgery.precision import precision
from kerasft.networks.surgery.resolution import resolution

__all__ = ["precision", "resolution"]
