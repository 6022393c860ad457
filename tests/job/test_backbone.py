"""A run whose `--backbone` leaves a choice: it chooses, says so, keeps its choice, and trains like a run that names it."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import ROOT

from kerasft.data import sources
from kerasft.job import backbone, build_network
from kerasft.networks import candidates, network
from kerasft.networks.backbones import DownloadError
from kerasft.settings.backbone_list import Candidate
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import resolved_settings
from kerasft.training import backbone_choice

QUICK = {"phases": "head(epochs=1)", "augment": "none", "precision": "float32", "batch_size": 8, "jit": "off"}
PLACES = ("--notensorboard", "--nowarmup")


def _run(place, name, **settings):
    given = QUICK | {"data": "digits", "per_class_limit": 12, "run_dir": name} | settings
    line = [sys.executable, "-m", "kerasft.run", *(f"--{name}={value}" for name, value in given.items()), *PLACES]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads((place / name / "metrics.json").read_text()), done.stdout


@pytest.fixture(scope="module")
def listed(blind, tiny, tmp_path_factory):
    """A run that chooses: where, its metrics, its screen."""
    place = tmp_path_factory.mktemp("listed")
    return place, *_run(place, "listed", backbone=f"{blind} | {tiny}")


@pytest.mark.large
def test_a_run_that_chose_is_the_run_that_was_told(listed, tiny):
    told, _ = _run(listed[0], "told", backbone=tiny)
    assert told["settled"]["backbone"] == tiny
    assert listed[1]["weights_sha256"] == told["weights_sha256"]


def test_a_run_chooses_and_says_so(listed, blind, tiny):
    place, metrics, screen = listed
    settled = metrics["settled"]
    assert settled["backbone"] == tiny
    assert [row["choice"] for row in settled["backbone_table"]] == [blind, tiny]
    assert "the lowest loss" in settled["backbone_reason"]
    assert f"backbone: {tiny} ({settled['backbone_reason']})" in screen
    assert screen.count("audit: ") == 1
    assert metrics["image_size"] == 32
    assert metrics["export"]["top1_agreement"] == 1
    assert {"audit", "train", "total"} <= metrics["seconds"].keys()
    page = (place / "listed" / "report.html").read_text()
    assert f'<th scope="row"><code>{blind}</code></th>' in page
    assert '<th scope="col">Multiplications</th>' in page


def test_a_run_that_goes_on_keeps_its_network(blind, tiny, tmp_path, monkeypatch):
    config = Config(**QUICK | {"data": "digits", "per_class_limit": 12, "backbone": f"{blind} | {tiny}"})
    listing = sources.load(config)
    first = backbone.choose_backbone(config, listing, tmp_path)
    assert first.config == replace(config, backbone=tiny)
    assert first.audited.size == 48
    build_network.resolve_settings(first.config, listing, tmp_path, first.choice)
    assert resolved_settings.read(tmp_path).backbone_table == first.choice.table
    monkeypatch.setattr(backbone.backbone_choice, "choose", lambda *_: pytest.fail("chosen again"))
    again = backbone.choose_backbone(config, listing, tmp_path)
    assert (again.config.backbone, again.choice) == (tiny, None)
    _, resolved = build_network.resolve_settings(again.config, listing, tmp_path)
    assert resolved.backbone_reason == first.choice.reason


def test_a_mistake_names_the_network_of_the_list_before_an_image_is_read(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(backbone, "audit_and_split", lambda *_: pytest.fail("images were read"))
    config = Config(**QUICK | {"data": "generated:2x8", "backbone": f"{tiny} | MobileNet(alpha=0.25, weights='no.h5')"})
    with pytest.raises(UserError, match=r"--backbone, MobileNet\(alpha=0.25, weights='no.h5'\): --weights: must be"):
        backbone.choose_backbone(config, sources.load(config), tmp_path)


@pytest.fixture
def short_list(monkeypatch, tiny, blind):
    """Lets `auto` find these networks, which are built from `tiny`, with images a second."""

    def make(**speeds):
        found = [Candidate(name, name, "imagenet") for name in speeds]
        monkeypatch.setattr(candidates, "short_list", lambda kind, **_: (found, ["ResNet50"]))

        def build(config, listing):
            if speeds[config.backbone] is None:
                raise DownloadError("--weights: imagenet could not be downloaded")
            return network.build(replace(config, backbone=tiny), 2, "single_label"), None

        def contender(config, choice, built, examples):
            return backbone.Contender(choice, built, built, None, 1.0, speeds[choice])

        monkeypatch.setattr(backbone.build_network, "build", build)
        monkeypatch.setattr(backbone.backbone_choice, "contender", contender)

    return make


@pytest.mark.large
def test_auto_leaves_out_what_cannot_be_had_or_would_take_too_long(short_list, tmp_path, monkeypatch, capsys):
    short_list(ConvNeXtTiny=1.0, EfficientNetV2B0=900.0, VGG16=None, MobileNetV2=1000.0)
    seen = []
    monkeypatch.setattr(
        backbone.backbone_choice,
        "choose",
        lambda _, those, *__: seen.extend(those) or backbone.BackboneChoice(0, "so", []),
    )
    config = Config(data="generated:2x8", weights="imagenet", image_size=32)
    chosen = backbone.choose_backbone(config, sources.load(config), tmp_path)
    assert [one.choice for one in seen] == ["EfficientNetV2B0", "MobileNetV2"]
    assert (chosen.config.backbone, chosen.config.weights) == ("EfficientNetV2B0", "imagenet")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "leaves out" in line]
    assert "ResNet50 (no weights here, and none can be downloaded)" in line
    assert "VGG16 (its weights could not be downloaded)" in line
    assert "ConvNeXtTiny (fine-tuning would take about 10\xa0h" in line


def test_auto_takes_the_only_one_without_a_probe_and_keeps_the_smallest(short_list, tmp_path, monkeypatch, capsys):
    short_list(MobileNetV2=0.5, ConvNeXtTiny=0.5)
    monkeypatch.setattr(backbone, "audit_and_split", lambda *_: pytest.fail("images were read"))
    config = Config(data="generated:2x8", weights="imagenet", image_size=32, budget_minutes=1.0)
    chosen = backbone.choose_backbone(config, sources.load(config), tmp_path)
    assert (chosen.config.backbone, chosen.audited) == ("MobileNetV2", None)
    assert "backbone: MobileNetV2 (the only one" in capsys.readouterr().out


def test_auto_names_the_ways_out_where_nothing_can_be_had(monkeypatch, tmp_path):
    monkeypatch.setattr(candidates, "short_list", lambda *_, **__: ([], ["MobileNetV2"]))
    config = Config(data="generated:2x8", weights="imagenet")
    chosen = backbone.choose_backbone(config, sources.load(config), tmp_path)
    assert (chosen.config.backbone, chosen.choice) == ("MobileNet(alpha=0.25)", None)
    assert backbone.likely(config).backbone == "MobileNet(alpha=0.25)"


def test_what_is_shown_before_the_choice_is_the_first_of_the_list(tiny, blind, monkeypatch):
    assert backbone.likely(Config(backbone=f"{blind} | {tiny}")).backbone == blind
    assert backbone.likely(Config()).backbone == "MobileNet(alpha=0.25)"
    found = [Candidate("ResNet50", "ResNet50", "imagenet")]
    monkeypatch.setattr(candidates, "short_list", lambda *_, **__: (found, []))
    assert backbone.likely(Config(weights="imagenet")).backbone == "ResNet50"


def test_a_student_trains_longer_so_fewer_networks_are_quick_enough():
    # 38,400 forward passes at 40 a second take 16 minutes.
    one = backbone_choice.Contender("a", None, None, None, 1e6, 40.0)
    assert backbone._too_slow(Config(), one, 20.0) == ""
    # Nothing is fine-tuned.
    assert backbone._too_slow(Config(phases="head"), one._replace(images_per_second=0.1), 20.0) == ""
    assert backbone._too_slow(Config(phases="head"), one._replace(images_per_second=None), 20.0) == ""
    assert "take about 48\N{NO-BREAK SPACE}min" in backbone._too_slow(Config(teacher="runs/large"), one, 20.0)
