"""Evidence about a network's predictions. Each piece is one file, and becomes a section of the report and a key of `metrics.json`."""

from kerasft.evidence.calibration import calibration
from kerasft.evidence.confusion import confusion
from kerasft.evidence.label_shift import label_shift
from kerasft.evidence.mistakes import mistakes
from kerasft.evidence.regression_errors import errors

# A new piece of evidence is one file and its name here.
EVIDENCE = {
    "calibration": calibration,
    "confusion": confusion,
    "errors": errors,
    "label_shift": label_shift,
    "mistakes": mistakes,
}
