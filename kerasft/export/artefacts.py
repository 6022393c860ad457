"""What a run exports besides portable artefacts. A new artefact is one file, its name here, and its call of `publish` in `job/train.py`."""

from kerasft.export.keras_model import KERAS_MODEL
from kerasft.export.saved_model import SAVED_MODEL

ARTEFACTS = {"saved_model": SAVED_MODEL, "keras_model": KERAS_MODEL}
