"""The headline: what the audit knows that a test figure must not hide."""

import numpy as np
import pytest

from kerasft.report import headline


@pytest.mark.parametrize("ending", ["", ", under another label"])
def test_an_image_in_two_splits_is_counted_whatever_its_label(ending):
    finding = {
        "path": "train/a/1.png",
        "kind": "duplicate_across_splits",
        "detail": f"same bytes as test/b/1.png{ending}",
    }
    audit = {"findings": [finding], "counts": {"test": {"a": 3, "b": 0}}}
    found = headline.find_caveats({"excluded_copies": 2}, audit, np.array(["test/b/1.png", "test/a/2.png"]))
    assert found == headline.Caveats(shared=1, left_out=2, missing=("b",))
