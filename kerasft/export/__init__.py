"""Export: artefacts, each published only with a proof."""

from kerasft.export.keras_model import KERAS_MODEL
from kerasft.export.saved_model import SAVED_MODEL

# What a run can export. A new artefact is one file and its name here.
ARTEFACTS = {"saved_model": SAVED_MODEL, "keras_model": KERAS_MODEL}
