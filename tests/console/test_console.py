"""What the user sees: odd names come through, long lists are cut, tables say the numbers."""

import os

import numpy as np
import pytest

from kerasft.console import console, stderr_filter
from kerasft.data import findings
from kerasft.data.listing import Finding
from kerasft.evaluation.scoring import Scorer
from kerasft.settings import failures
from kerasft.settings.spec import Spec, parse, parse_one
from kerasft.strategies import Phase, top
from kerasft.training import phase_table
from kerasft.training.phase_record import PhaseRecord


def test_odd_names_are_printed_as_they_are(capsys):
    console.say("[bold]x[/bold] 蚂蚁 \udcff :heart: کتاب\u200cها")
    assert capsys.readouterr().out == "[bold]x[/bold] 蚂蚁 \\udcff :heart: کتاب\u200cها\n"


def test_nothing_printed_is_obeyed_by_a_terminal(capsys):
    hostile = "a\x1b[2J\x9b31m\x07\r\nfake: 1.0\t\u202egpj\u2028"
    shown = r"a\x1b[2J\x9b31m\x07\r\nfake: 1.0\t\u202egpj\u2028"
    console.say(hostile)
    findings.show((Finding(hostile, "duplicate", "warn", hostile),))
    failures.print_message([hostile, "second line"])
    with stderr_filter.without_notices():
        os.write(2, hostile.replace("\n", "").replace("\r", "").encode() + b"\n")
    printed = capsys.readouterr()
    assert printed.out == f"{shown}\n  to look at: {shown}: duplicate: {shown}\n"
    assert printed.err.startswith(f"{shown}\nsecond line\n")
    augment = (Spec("crop", (hostile,)), Spec("step", (), {"at": ["bold"]}))
    phase = Phase(strategy="all", unfreeze=1.0, epochs=3, lr=1e-4, optimizer=Spec("adamw"), augment=augment)
    phase_table.show_phases([(phase, 1, 2)])
    printed = capsys.readouterr().out
    assert not {"\x1b", "\x9b", "\u202e"} & set(printed)
    assert "step(at=['bold'])" in " ".join(printed.split())


def test_what_is_left_out_comes_first_and_long_lists_are_cut(capsys):
    found = [Finding("w.jpg", "duplicate", "warn", "same bytes as v.jpg")]
    found += [Finding(f"{i}.jpg", "empty_file", "reject", "0 bytes") for i in range(30)]
    findings.show(tuple(found), max_lines=3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  left out: 0.jpg: empty file: 0 bytes"
    assert lines[3] == "  ... and 27 more left out: see audit.json"
    assert lines[4] == "  to look at: w.jpg: duplicate: same bytes as v.jpg"


def test_the_gravest_comes_first(capsys):
    found = [Finding(f"{i}.png", "alpha", "warn", "transparent") for i in range(8)]
    found += [Finding("a.png", "leak", "warn", "as b.png"), Finding("val/", "missing_class", "warn", "no image")]
    findings.show(tuple(found), max_lines=2, whole_list="kerasft audit lists them")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("  to look at: val/: missing class") and "leak" in lines[1]
    assert lines[2:] == ["  ... and 8 more to look at: kerasft audit lists them"]


def test_the_table_of_phases(capsys):
    augment = parse("flip", "--augment")
    given = {"optimizer": parse_one("adamw", "x"), "schedule": parse_one("constant", "x"), "augment": augment}
    phase = top(0.5, 3, 1e-4, **given)
    phase_table.show_phases([(phase, 1234, 567890)])
    printed = capsys.readouterr().out
    for part in ("top(unfreeze=0.5", "1,234", "567,890", "flip"):
        assert part in printed


@pytest.mark.parametrize("total", [0, 3])
def test_progress_works_without_a_terminal(total):
    with console.progress("audit", total) as advance:
        for _ in range(total):
            advance(1)


def test_progress_says_a_line_now_and_then_without_a_terminal(capsys, monkeypatch):
    with console.progress("predict", 5000) as advance:
        advance(1)
        monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0)
        advance(1023)
    assert capsys.readouterr().out.startswith("predict: 1,024 of 5,000, ")


@pytest.mark.parametrize(
    ("alpha", "epochs", "words"),
    [
        (1.0, 1, "its weights kept"),
        (0.5, 1, "half-way weights kept"),
        (0.0, 1, "undone, for it gained too little"),
        # A head that is solved, and a phase that changes nothing.
        (1.0, 0, "the solved head, which is always kept"),
        (0.0, 0, "nothing was trained, for it has no epochs"),
    ],
)
def test_the_end_of_a_phase_is_one_sentence(alpha, epochs, words):
    figures = {
        "initial": (0.348, 0.87),
        "final": (0.254, 0.91),
        "alpha": alpha,
        "temperature": 1.0,
        "score": "accuracy",
    }
    counts = {"views": 0, "trainable_parameters": 1, "frozen_parameters": 2, "lr_backoffs": 0, "epochs": epochs}
    record = PhaseRecord(name="01-all", spec="all", seconds=1.0, images_per_second=2.0, **counts, **figures)
    assert record.sentence("accuracy") == f"{words}: validation loss 0.3480 -> 0.2540, accuracy 0.8700 -> 0.9100"


def test_an_undone_phase_says_what_it_reached_and_what_was_needed():
    kept = {"initial": (0.1443, 0.87), "final": (0.1443, 0.87), "alpha": 0.0, "temperature": 1.0, "score": "accuracy"}
    counts = {"views": 0, "trainable_parameters": 1, "frozen_parameters": 2, "lr_backoffs": 0, "epochs": 2}
    refused = {"share": 0.5, "loss": 0.1421, "score": 0.88, "needed": 0.1403}
    record = PhaseRecord("01-all", "all", 1.0, images_per_second=2.0, refused=refused, **counts, **kept)
    said = "validation loss 0.1443 -> 0.1421 with half-way weights (needed: 0.1403), accuracy 0.8700 -> 0.8800"
    assert record.sentence("accuracy") == f"undone, for it gained too little: {said}"
    assert record.to_json()["refused"] == refused


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.91237, "0.9124"), (0, "0.0000"), (0.000512345, "0.0005123"), (17302.4, "17,302.4"), (None, "unknown")],
)
def test_small_figures_keep_their_digits(value, shown):
    assert console.format_metric(value) == shown


def test_the_error_of_several_targets_is_in_deviations():
    def title(task, targets):
        return Scorer(task, np.zeros((3, targets), np.float32)).title

    assert title("regression", 1) == "mean absolute error"
    assert title("regression", 2) == "mean absolute error in deviations"
    assert title("single_label", 2) == "accuracy"
