"""`baseline.npz`: what is written is read."""

import numpy as np
from two_models import single

from kerasft.storage import baseline_file


def test_what_is_written_is_read(tmp_path):
    both = single([True, False, True], [True, True, False], [0, 1, 1])
    baseline_file.write(tmp_path, both)
    again = baseline_file.read(tmp_path)
    np.testing.assert_array_equal(again.before.answers, both.before.answers)
    np.testing.assert_array_equal(again.after.losses, both.after.losses)
    assert again.ids.tolist() == both.ids.tolist() and again.after.predicted is None
