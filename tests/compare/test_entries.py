"""`--strategies`: what an entry may be, and what is refused before anything is trained."""

import pytest

from kerasft.compare import entries
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.strategies import STRATEGIES


def parse(text, task="single_label", **settings):
    return entries.parse(text, Config(**settings), task)


def test_phases_flags_and_names():
    found = parse("head ; two steps: head | all(epochs=2, lr=3e-5);--average=ema(momentum=0.9)  --nodeterministic; ")
    assert [one.name for one in found] == ["head", "two steps", "--average=ema(momentum=0.9) --nodeterministic"]
    assert [one.config.phases for one in found] == ["head", "head | all(epochs=2, lr=3e-5)", "auto"]
    assert [one.config.average for one in found] == ["none", "none", "ema(momentum=0.9)"]


def test_a_value_has_spaces_and_types_and_ends_at_the_next_flag():
    (_, one) = parse("head; --augment=crop | flip --batch_size=16 --deterministic --phases=all(loss=poly)")
    config = one.config
    assert (config.augment, config.batch_size, config.deterministic) == ("crop | flip", 16, True)
    assert config.phases == "all(loss=poly)"


def test_the_flags_of_an_entry_may_name_what_the_command_allows():
    (_, one) = parse("head; x: --optimizer=mine.Lion(0.1)", allow_imports=("yours", "mine"))
    assert one.config.optimizer == "mine.Lion(0.1)"
    with pytest.raises(UserError, match="--allow_imports=mine on the command line"):
        parse("head; x: --optimizer=mine.Lion(0.1)")


def test_the_default_has_every_strategy_and_at_least_ten_entries():
    found = parse("")
    assert len(found) >= 10
    # `quantised` prepares a trained network for int8, and is no way to train one.
    assert {spec.name for one in found for spec in one.config.specs("phases")} == {*STRATEGIES, "auto"} - {"quantised"}


def test_folders_are_plain_and_differ_with_the_settings():
    found = [one.folder_name for one in parse("head; ../é: all; ../ü: top; x: all(epochs=3)".replace("../", ""))]
    assert len(set(found)) == 4
    assert all(name.isascii() and "/" not in name and not name.startswith(".") for name in found)
    assert parse("a: head; all")[0].folder_name.split("-")[-1] == parse("b: head; all")[0].folder_name.split("-")[-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("head", "at least two entries"),
        ("hed; all", "did you mean 'head'?"),
        ("head; all(epoch=3)", "did you mean 'epochs'?"),
        ("head; head", "two entries have this name"),
        ("head; again: head", "has the same settings as 'head'"),
        ("head; x:", "needs phases or flags after its name"),
        ("head; top(0.3", "was never closed"),
        ("head; --bacth_size=3", "did you mean 'batch_size'?"),
        ("head; --batch_size=ten", "--batch_size: must be a whole number"),
        ("head; --batch_size=0", "--batch_size: must be in"),
        ("head; --phases=all --phases=top", "--phases stands twice"),
        ("head; --seed=3", "--seed is the same for all entries"),
        ("head; --data=digits", "--data is the same"),
        ("head; --exclude=x.txt", "--exclude is the same"),
        (r"head; a: --group_pattern=p(\d+)", "--group_pattern is the same"),
        ("head; --allow_imports=os", "--allow_imports is the same"),
        ("head; --export_dir=x", "--export_dir is the same"),
        ("head; os.getcwd()", "--allow_imports=os on the command line"),
    ],
)
def test_a_mistake_is_named(text, words):
    with pytest.raises(UserError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert "Received: " in str(caught.value)


def test_regression_is_compared_by_one_loss():
    with pytest.raises(UserError, match="a phase may have its own"):
        parse("head; --loss=mae --phases=all", task="regression")
    assert parse("head; all(loss=mae)", task="regression")


def test_a_mistake_in_an_entry_is_one_of_strategies():
    with pytest.raises(UserError, match="--strategies: entries are separated by ;"):
        entries.parse("head, all", Config(), "single_label")
