"""Text to Specs, and Specs to callables."""

import types

import pytest

from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec


def test_names_calls_pipes_and_nested_specs():
    parsed = specs.parse("all(epochs=5, optimizer=sgd(momentum=0.9), augment=flip | rotate(-15))|head", "--phases")
    assert [item.name for item in parsed] == ["all", "head"]
    kwargs = parsed[0].kwargs
    assert kwargs["epochs"] == 5
    assert kwargs["optimizer"] == Spec("sgd", (), {"momentum": 0.9})
    assert kwargs["augment"] == (Spec("flip"), Spec("rotate", (-15,)))


@pytest.mark.parametrize("text", ["", "none", " None "])
def test_nothing(text):
    assert specs.parse(text, "--augment") == ()


@pytest.mark.parametrize("text", ["crop(area=(0.35, 1)) | flip", "x(a=[1, None, True], b='s')", "f(g(1), h=i | j(2))"])
def test_text_and_back(text):
    parsed = specs.parse(text, "--augment")
    assert specs.parse(" | ".join(map(str, parsed)), "--augment") == parsed


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("flip | rotate[15]", "flip | rotate[15]\n         ^"),
        ("flip(", "^"),
        ("rotate(1 + 1)", "^"),
        ("(lambda: 1)()", "^"),
        ("rotate(**{'degrees': 3})", "^"),
        ("rotate(degrees=open('x').read())", "^"),
        ("f(a=1, a=2)", "^"),
        ("'flip'", "^"),
        ("flip; rotate", "^"),
        ("a\nb", "^"),
        ("flip\0", "flip"),
    ],
)
def test_anything_else_is_refused_with_its_place(text, place):
    with pytest.raises(UserError) as caught:
        specs.parse(text, "--augment")
    message = str(caught.value)
    assert message.startswith("--augment: ")
    assert place in message
    assert message.endswith(f"Received: {text!r}")


def test_hostile_nesting_is_refused():
    with pytest.raises(UserError):
        specs.parse("(" * 5000 + "a" + ")" * 5000, "--augment")


def _module():
    module = types.SimpleNamespace(__all__=["rotate"])
    module.rotate = lambda degrees=15.0, *, fill="mirror": (degrees, fill)
    return module


def test_build_binds_arguments():
    names = specs.choices(_module())
    assert specs.build(specs.parse_one("Rotate(30, fill='x')", "--augment"), "--augment", names) == (30, "x")


def test_near_misses_are_named():
    names = specs.choices(_module())
    with pytest.raises(
        UserError, match=r"--augment: must be one of rotate \(did you mean 'rotate'\?\)\. Received: 'rotat'"
    ):
        specs.build(Spec("rotat"), "--augment", names)
    with pytest.raises(
        UserError, match=r"rotate\(\) takes degrees, fill \(did you mean 'degrees'\?\)\. Received: 'degree='"
    ):
        specs.build(Spec("rotate", (), {"degree": 3}), "--augment", names)
    with pytest.raises(UserError, match="too many positional"):
        specs.build(Spec("rotate", (1, 2, 3)), "--augment", names)


def test_the_kind_of_the_result_is_checked():
    with pytest.raises(UserError, match="must give a int"):
        specs.build(Spec("rotate"), "--augment", specs.choices(_module()), kind=int)


def test_keras_names_whatever_the_case():
    import keras

    names = specs.choices(keras.optimizers, keras.optimizers.Optimizer)
    for word in ("adamw", "AdamW", "sgd", "schedule_free_adamw"):
        assert issubclass(specs.resolve(Spec(word), "--optimizer", names), keras.optimizers.Optimizer)


def test_the_first_namespace_wins_whatever_the_case():
    ours, theirs = {"mixup": int, "Zoom": bool}, {"MixUp": str, "zoom": float}
    words = ("mixup", "MixUp", "Zoom", "zoom")
    assert [specs.resolve(Spec(word), "--augment", ours, theirs) for word in words] == [int, int, bool, bool]
    # In one namespace the exact name comes first.
    assert specs.resolve(Spec("MixUp"), "--augment", ours | theirs) is str


def test_dotted_names_are_found_in_arguments():
    parsed = specs.parse_one("all(optimizer=mine.Best(1), augment=flip | mine.blur)", "--phases")
    assert specs.dotted_names(parsed) == ["mine.Best", "mine.blur"]
    found = specs.resolve(Spec("collections.OrderedDict"), "--x", outside=dict)
    assert found is __import__("collections").OrderedDict
    with pytest.raises(UserError, match="cannot import"):
        specs.resolve(Spec("math.nope"), "--x", outside=dict)


def test_only_what_is_of_the_kind_is_taken_from_outside(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        "class Mine(dict):\n    def __init__(self, **k): super().__init__(k)\ndef made(x: int) -> Mine: return Mine(x=x)\ndef bare(): raise SystemExit\n"
        "def other() -> int: raise SystemExit\ndef lost() -> 'Nowhere': raise SystemExit\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert specs.build(Spec("theirs.Mine"), "--x", kind=dict, outside=dict) == {}
    assert specs.build(Spec("theirs.made", (3,)), "--x", kind=dict, outside=dict) == {"x": 3}
    for name in (
        "theirs.bare",
        "theirs.other",
        "theirs.lost",
        "os.system",
        "os.getcwd",
        "os.sep",
        "fractions.Fraction",
    ):
        with pytest.raises(
            UserError, match=r"must be a subclass of dict, or a function whose return annotation is one"
        ):
            specs.build(Spec(name), "--x", kind=dict, outside=dict)


def test_where_nothing_from_outside_is_taken_nothing_is_imported(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UserError, match=r"--x: must be one of a; dotted names, .* are not taken here\. Rec.*'planted.run'"
    ):
        specs.build(Spec("planted.run"), "--x", {"a": dict})


@pytest.mark.parametrize("text", ["f(dtype={'module': 'os', 'class_name': 'system'})", "f([1, {2}])", "f((b'x',))"])
def test_no_argument_describes_an_object(text):
    with pytest.raises(UserError, match="an argument must be a number, text"):
        specs.parse(text, "--augment")


@pytest.mark.parametrize(
    ("flag", "rule"),
    [
        ("--phases", r"--phases: several are separated by \|, not by commas, here:"),
        ("--strategies", r"--strategies: entries are separated by ;, and the phases of one by \|, not by commas"),
    ],
)
def test_commas_between_names_are_told_what_separates_them(flag, rule):
    with pytest.raises(UserError, match=rule):
        specs.parse("head, all(epochs=3)", flag)
