"""`--backbone` as a list: what is split where, and what is refused."""

import pytest

from kerasft.settings import backbone_list
from kerasft.settings.backbone_list import Candidate
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("auto", [Candidate("auto", "auto")]),
        ("MobileNet", [Candidate("MobileNet", "MobileNet")]),
        ("runs/a b/model.keras", [Candidate("runs/a b/model.keras", "runs/a b/model.keras")]),
        (
            "MobileNet(0.5, weights='a|b.h5')|x.keras | MobileNetV2(weights=imagenet)",
            [
                Candidate("MobileNet(0.5, weights='a|b.h5')", "MobileNet(0.5)", "a|b.h5"),
                Candidate("x.keras", "x.keras"),
                Candidate("MobileNetV2(weights=imagenet)", "MobileNetV2", "imagenet"),
            ],
        ),
    ],
)
def test_a_list_is_split_at_its_bars(text, found):
    assert list(backbone_list.parse(text)) == found
    assert Config(backbone=text).backbone == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("MobileNet | MobileNet", "named once"),
        ("auto | MobileNet", "stands alone"),
        ("MobileNet(weights=3)", "weights= must be"),
        ("MobileNet(weights=imagenet(1))", "weights= must be"),
        ("MobileNet | ", "--backbone"),
        ("none", "--backbone"),
        ("MobileNet | foreign.build", "--allow_imports=foreign"),
    ],
)
def test_a_wrong_list_is_refused_before_anything_is_read(text, words):
    with pytest.raises(UserError, match=words):
        Config(backbone=text)
