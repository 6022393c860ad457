"""What `--average` names, and what of it a changed network can take."""

import pytest

from kerasft.optimization import averages
from kerasft.settings import spec as specs


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("none", []),
        ("swa(last=0.5)", ["swa(last=0.5)"]),
        ("ema | soup(runs=('runs/a', 'runs/b'))", ["ema", "soup"]),
    ],
)
def test_a_soup_without_other_runs_keeps_the_rest(text, left):
    found = averages.without_runs(specs.parse(text, "--average"))
    assert list(map(str, found)) == left
    assert averages.runs_of(averages.build(found)) == ()


def test_the_runs_of_a_soup_may_be_in_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert averages.soup(runs=("~/a", "b")).runs == ("/home/me/a", "b")
