"""The short list of `--backbone=auto`: what stands on it, by what can be had. Nothing is downloaded here."""

import urllib.request

import pytest

from kerasft.networks import backbones, bundled, candidates, published_accuracy
from kerasft.settings.backbone_list import Candidate
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

PUBLISHED = {backbone.name: backbone for backbone in published_accuracy.BACKBONES}


@pytest.fixture
def keep(monkeypatch, tmp_path):
    """Puts (empty) weights of networks where Keras would look for them."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    return lambda *names: [(tmp_path / "models" / PUBLISHED[name].file).touch() for name in names]


@pytest.mark.parametrize(
    ("settings", "automatic"),
    [
        ({}, False),
        ({"data": "generated:2x8"}, False),
        ({"data": "folder:photos"}, True),
        ({"weights": "imagenet"}, True),
        ({"data": "folder:photos", "weights": "none"}, False),
        ({"data": "folder:photos", "weights": "w.h5"}, False),
        ({"data": "folder:photos", "backbone": "MobileNet"}, False),
    ],
)
def test_auto_makes_a_list_of_imagenet_networks_only(settings, automatic):
    config = Config(**settings)
    assert candidates.is_automatic(config) == automatic
    if config.backbone == "auto":
        assert candidates.one(config).backbone == bundled.BACKBONE


def test_the_short_lists_name_networks_that_are_published():
    for names in candidates.SHORT_LISTS.values():
        assert set(names) <= set(PUBLISHED)
        assert len(names) <= candidates.MAX_CANDIDATES
        assert all(name.partition("(")[0] in backbones.list_constructors() for name in names)


def test_what_can_be_downloaded_comes_in_the_order_of_preference(keep, monkeypatch):
    keep("VGG16")
    monkeypatch.setattr(candidates, "can_download", lambda: True)
    found, missing = candidates.short_list("CPU")
    assert ([one.choice for one in found], missing) == (list(candidates.SHORT_LISTS["CPU"]), [])


def test_without_a_connection_there_is_what_is_here(keep, monkeypatch):
    monkeypatch.setattr(candidates, "can_download", lambda: False)
    assert candidates.short_list("CPU") == ([], list(candidates.SHORT_LISTS["CPU"]))
    keep("ResNet50", "MobileNet(alpha=0.5)", "MobileNetV2")
    found, missing = candidates.short_list("CPU")
    assert found == [Candidate(name, name, "imagenet") for name in ("MobileNetV2", "MobileNet(alpha=0.5)", "ResNet50")]
    assert missing == [name for name in candidates.SHORT_LISTS["CPU"] if name != "MobileNetV2"]


def test_a_connection_is_asked_for_once_and_only_where_something_is_missing(keep, monkeypatch):
    asked = []

    def refuse(request, timeout):
        asked.append((request.get_method(), timeout))
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    candidates.can_download.cache_clear()
    try:
        candidates.short_list("CPU", download=False)
        assert asked == []
        for _ in range(2):
            assert candidates.short_list("CPU")[0] == []
        assert asked == [("HEAD", candidates._TIMEOUT_SECONDS)]
        candidates.can_download.cache_clear()
        keep(*candidates.SHORT_LISTS["CPU"])
        assert candidates.short_list("CPU")[1] == []
        assert len(asked) == 1
    finally:
        candidates.can_download.cache_clear()


def test_weights_of_a_network_win_over_the_flag():
    config = candidates.one(Config(backbone="MobileNet(weights='a.h5')", weights="b.h5"))
    assert (config.backbone, config.weights) == ("MobileNet", "a.h5")
    assert candidates.one(Config(backbone="MobileNet", weights="b.h5")).weights == "b.h5"
    with pytest.raises(UserError, match="name one network"):
        candidates.one(Config(backbone="MobileNet | MobileNetV2"))
