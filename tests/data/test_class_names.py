"""Classes that are probably one, or none, are named before anything is trained."""

import unicodedata

import pytest

from kerasft.data import class_names, sources
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


@pytest.mark.parametrize(
    ("names", "odd"),
    [
        (("cat", "dog"), {}),
        (("Cat", "cat", "dog"), {"cat": "similar_classes"}),
        (("great_tit", "great tit", "great-tit"), {"great tit": "similar_classes", "great-tit": "similar_classes"}),
        (("1", "1.0", "2"), {"1.0": "similar_classes"}),
        (("-1", "1", "1_0", "10", "-", "_"), {}),
        (("cat", "cat,dog", "dog", "dog; cat"), {"cat,dog": "joined_labels", "dog; cat": "joined_labels"}),
        (("cat", "cat/cow", "dog", "A+", "A", "dog,"), {}),
        (("a", "nan", "n/a"), {"nan": "missing_label", "n/a": "missing_label"}),
    ],
)
def test_names_that_mean_the_same_or_nothing(names, odd):
    assert {finding.path: finding.kind for finding in class_names.find_suspicious(names, "x")} == odd


def test_joined_labels_are_told_how_several_are_written():
    (finding,) = class_names.find_suspicious(("cat", "cat, dog", "dog"), "x")
    assert finding.detail == "is a class of its own beside 'cat' and 'dog'; several labels are written cat|dog"


def test_names_that_look_the_same_are_refused():
    names = [unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD")]
    with pytest.raises(UserError, match="2 classes are all called 'Bär'"):
        class_names.find_suspicious(names, "folder:x")


def test_a_listing_has_the_findings(photos, tmp_path):
    paths = sorted((photos / "disc").iterdir())[:4]
    rows = [f"{path},{label}" for path, label in zip(paths, ("disc", "Disc") * 2)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    listing = sources.load(Config(data=f"csv:{tmp_path / 't.csv'}"))
    assert "similar_classes" in {finding.kind for finding in listing.findings}
