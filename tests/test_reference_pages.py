"""The reference pages name all that the code has: kinds of findings, augmentations with their arguments, keys of `metrics.json`."""

import ast
import inspect
import re
from dataclasses import fields

import pytest
from conftest import ROOT
from tables import first_cells

from kerasft.augment.layer import _MODULES
from kerasft.evidence import EVIDENCE
from kerasft.settings import spec as specs
from kerasft.settings.config import FIELDS
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.training.phase_record import PhaseRecord

METRICS = first_cells("metrics.md")
# The functions that take the kind of a finding, and the place of it among their arguments.
MAKERS = {"Finding": (1,), "reject": (0, 1), "Rule": (0,)}


def _texts(node: ast.expr) -> list[str]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _kinds() -> set[str]:
    """The kinds of findings that the code can give: in calls, in pairs of kind and detail, and in what is called `kind`."""
    found = set()
    for path in [*ROOT.glob("kerasft/data/**/*.py"), ROOT / "kerasft/probes/probe_findings.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                for place in MAKERS.get(name, ()):
                    found |= set(_texts(node.args[place])) if len(node.args) > place else set()
            elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant):
                is_text = isinstance(node.elts[1], (ast.JoinedStr, ast.Constant, ast.Call, ast.Name))
                found |= set(_texts(node.elts[0])) if is_text else set()
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("kind", "DAMAGED"):
                found |= set(_texts(node.value))
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                pairs = zip(node.targets[0].elts, getattr(node.value, "elts", ()))
                found |= {text for one, value in pairs if getattr(one, "id", "") == "kind" for text in _texts(value)}
    return {kind for kind in found if re.fullmatch(r"[a-z0-9_]+", kind)}


# What the functions above find too, and is no kind.
NO_KINDS = {"auto", "class", "classes", "image", "reject", "single_label", "test", "train", "val", "warn"}


def test_the_page_of_the_audit_has_each_kind_of_finding():
    kinds = _kinds() - NO_KINDS
    assert {"leak", "system_file", "broken_row", "no_positive", "outlier", "16_bit", "near_copy"} <= kinds
    assert first_cells("audit.md") == kinds


def _augmentations() -> dict:
    return {name: function for module in _MODULES for name, function in specs.choices(module).items()}


def test_the_page_of_augmentations_has_each_with_its_arguments_and_defaults():
    shown = {spec.name: spec for spec in (specs.parse_one(text, "") for text in first_cells("augmentation.md"))}
    assert shown.keys() == _augmentations().keys()
    for name, function in _augmentations().items():
        defaults = {key: one.default for key, one in inspect.signature(function).parameters.items()}
        assert shown[name].args == () and shown[name].kwargs.keys() == defaults.keys(), name
        for key, value in defaults.items():
            near = value if isinstance(value, str) else pytest.approx(value, rel=1e-3)
            assert shown[name].kwargs[key] == near, (name, key)


def test_the_help_of_augment_names_each():
    text = FIELDS["augment"].metadata["help"].partition("Geometric:")[2]
    assert set(re.findall(r"\w+", text)) >= _augmentations().keys()


def test_the_page_of_metrics_has_what_a_run_has_settled():
    assert {item.name.removesuffix("_reason").removesuffix("_table") for item in fields(ResolvedSettings)} <= METRICS


def test_the_page_of_metrics_has_each_piece_of_evidence_and_each_figure_of_a_phase():
    row = PhaseRecord("02-all", "all", 1, 1, 1, "SCORE", (1, 1), (1, 1), 1, 1, 0, 1, 1, 0).to_json()
    assert row.keys() <= METRICS
    # Evidence with figures is a key.
    assert {"calibration", "label_shift"} <= METRICS & EVIDENCE.keys()
