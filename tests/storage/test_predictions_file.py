"""`predictions.npz`: what is written is read again, and a damaged file is said."""

import numpy as np
import pytest

from kerasft.settings.errors import UserError
from kerasft.storage import predictions_file

ARRAYS = {"ids": np.array(["a", "b"]), "probabilities": np.eye(2)}


def test_what_is_written_is_read(tmp_path):
    predictions_file.write(tmp_path, ARRAYS)
    assert predictions_file.read(tmp_path).keys() == ARRAYS.keys()
    assert predictions_file.read(tmp_path, "ids")["ids"].tolist() == ["a", "b"]


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        predictions_file.read(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_a_truncated_file_is_said(tmp_path, kept):
    predictions_file.write(tmp_path, ARRAYS)
    path = tmp_path / predictions_file.NAME
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"predictions.npz is damaged \(.*\); .*--noresume .*Received: "):
        predictions_file.read(tmp_path)


def test_flipped_bytes_and_an_array_that_is_missing_are_said(tmp_path):
    predictions_file.write(tmp_path, ARRAYS)
    with pytest.raises(UserError, match="KeyError"):
        predictions_file.read(tmp_path, "values")
    path = tmp_path / predictions_file.NAME
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"predictions\.npz is damaged"):
        predictions_file.read(tmp_path)
