"""What `--data` may name, the embedded digits, and settings that a task refuses."""

import pytest
from conftest import carved

from kerasft.config import Config
from kerasft.data import sources
from kerasft.data.listing import SPLITS
from kerasft.errors import UserError


def test_digits_are_embedded():
    data = carved("digits")
    assert data.classes == tuple("0123456789")
    assert sum(len(getattr(data, part)) for part in SPLITS) == 1797
    assert data.train.read(0).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("digit", r"--data: must be one of digits, folder:DIR \(did you mean 'digits'\?\)\. Received: 'digit'"),
        ("digits:x", "digits takes no argument"),
        ("folder:", "no such folder"),
        ("folder:{root}/nope", "no such folder"),
        ("folder:{root}/trian", r"no such folder \(did you mean 'train'\?\)"),
        ("folder:{root}/train/disc", "at least two class folders"),
    ],
)
def test_wrong_sources_are_refused(split_folder, data, message):
    with pytest.raises(UserError, match=message):
        sources.load(Config(data=data.format(root=split_folder)))
