"""Config, its flags, and the messages of both."""

import pickle
from dataclasses import asdict, fields, replace

import pytest
from absl import flags

from kerasft.settings import command_flags, stored_config
from kerasft.settings import help as help_pages
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec


def _read(*arguments: str):
    values = flags.FlagValues()
    command_flags.define_flags(values)
    return command_flags.read_settings(values, command_flags.parse(values, ["run", *arguments]))


def _parse(*arguments: str) -> Config:
    values = flags.FlagValues()
    command_flags.define_flags(values)
    flags.DEFINE_string("flagfile", None, "", flag_values=values) if "flagfile" not in values else None
    values(["kerasft", *arguments])
    return command_flags.make_config(values)


def test_every_field_is_a_flag_with_help_and_the_same_default():
    assert _parse() == Config()
    text = help_pages.full_help()
    for item in fields(Config):
        assert f"{item.name}" in text
        assert item.metadata["help"]


def test_flags_to_config_and_back():
    given = Config(
        data="folder:/a b/c",
        augment="crop(area=(0.35, 1)) | flip",
        image_size=96,
        val_fraction=0.1,
        deterministic=True,
        tensorboard=False,
        phases="head(epochs=2) | all(lr=1e-5)",
        splits="train=train[:80%]; val=train[80%:]",
        per_class_limit=5,
    )
    assert _parse(*stored_config.to_flags(given).splitlines()) == given


def test_specs_are_parsed_once_and_change_neither_text_nor_digest(monkeypatch):
    config = Config(augment="crop(area=(0.35, 1)) | flip", optimizer="sgd(momentum=0.9)")
    plain = Config()
    other = replace(config, average="ema")
    monkeypatch.setattr(specs, "parse", lambda text, flag: pytest.fail(f"{flag} is parsed again"))
    assert [str(spec) for spec in config.specs("augment")] == ["crop(area=(0.35, 1))", "flip"]
    assert config.spec("optimizer") == Spec("sgd", (), {"momentum": 0.9})
    assert plain.specs("average") == () and other.specs("average") == (Spec("ema"),)
    assert other.specs("augment") == config.specs("augment")
    assert pickle.loads(pickle.dumps(config)).spec("optimizer") == config.spec("optimizer")
    assert asdict(config).keys() == {item.name for item in fields(Config)}


def test_a_backbone_that_is_a_file_is_no_spec():
    assert Config(backbone="my net (2).keras").specs("backbone") == ()


def test_digest_follows_the_settings_but_not_the_places():
    base = Config()
    assert base.digest() == Config(run_dir="x", export_dir="y", resume=False, tensorboard=False).digest()
    changed = {
        "data": "folder:x",
        "seed": 1,
        "batch_size": 8,
        "backbone": "ResNet50",
        "phases": "head",
        "augment": "none",
    }
    digests = {replace(base, **{name: value}).digest() for name, value in changed.items()}
    assert len(digests | {base.digest()}) == len(changed) + 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 0, r"--batch_size: must be in \[1, 65536\]\. Received: 0"),
        ("batch_size", True, "--batch_size: must be a whole number. Received: True"),
        ("batch_size", "8", "--batch_size: must be a whole number. Received: '8'"),
        ("val_fraction", 1.0, r"--val_fraction: must be in \[0.01, 0.9\]"),
        ("bad_images", "skp", r"must be one of skip, fail \(did you mean 'skip'\?\)\. Received: 'skp'"),
        ("image_size", 4, "--image_size: must be in"),
        ("task", "multilabel", r"--task: must be one of .* \(did you mean 'multi_label'\?\)"),
        ("per_class_limit", 0, r"--per_class_limit: must be in \[1, "),
        ("sampling", "weighted", "--sampling: must be one of uniform, balanced"),
        ("class_weights", "balance", r"--class_weights: must be one of none, balanced \(did you mean 'balanced'\?\)"),
        ("deterministic", 1, "--deterministic: must be true or false. Received: 1"),
        ("augment", "flip|", "--augment: "),
        ("head", "linear|mlp", "--head: must be one name or call, not 2"),
        ("optimizer", "os.system('x')", "--optimizer: os.system is code from outside"),
        ("phases", "all(optimizer=evil.Adam)", "--phases: evil.Adam is code from outside"),
    ],
)
def test_a_wrong_value_is_refused(field, value, message):
    with pytest.raises(UserError, match=message):
        Config(**{field: value})


def test_a_package_of_ones_own_has_to_be_allowed():
    assert Config(optimizer="mine.Best(1)", allow_imports=("mine",)).optimizer == "mine.Best(1)"


@pytest.mark.parametrize(
    ("data", "embedded"),
    [
        ("digits", True),
        ("generated:2x20", True),
        ("digits.csv", False),
        ("generated", False),
        ("digits/", False),
        ("", False),
    ],
)
def test_files_that_are_called_like_embedded_data_are_files(data, embedded):
    assert Config(data=data).has_embedded_data == embedded


def test_a_home_folder_is_expanded_wherever_a_path_is_named(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = Config(run_dir="~/runs/a", export_dir="~/models", cache_dir="~/c", baseline="~/models/x/1")
    assert (config.run_dir, config.export_dir) == ("/home/me/runs/a", "/home/me/models")
    assert (config.cache_dir, config.baseline) == ("/home/me/c", "/home/me/models/x/1")
    config = Config(weights="~/w.h5", backbone="MobileNet(0.5) | ~/a.keras|hub:~/vit", teacher="~/r1 | runs/~b")
    assert (config.weights, config.teacher) == ("/home/me/w.h5", "/home/me/r1 | runs/~b")
    assert config.backbone == "MobileNet(0.5) | /home/me/a.keras | hub:/home/me/vit"
    _, options = _read("--mode=predict", "--model=~/models/x", "--out=~/o.csv", "--images=~/new")
    assert [options[name] for name in ("model", "out", "images")] == [
        "/home/me/models/x",
        "/home/me/o.csv",
        "/home/me/new",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--images=photos",), "--images: is for predict and explain; this is train. Received: 'photos'"),
        (("--model=runs/old",), "--model: is for predict and serve and compress and explain; this is train"),
        (("--mode=tune", "--strategies=head"), "--strategies: is for compare; this is tune"),
        (
            ("--mode=predict", "--tta=flip"),
            "--tta: is a setting of training, and predict uses a model as it was exported",
        ),
        (("--mode=serve", "--data=folder:x"), "--data: is a setting of training"),
        (
            ("--mode=compress", "--export=onnx", "--tta=flip"),
            "--tta: is a setting of training, and compress takes it from",
        ),
        (
            ("--mode=compress", "--phases=all"),
            "--phases: is for the steps of compress --target, and --target is not set",
        ),
        (("--mode=compress", "--target=flops=0.5", "--image_size=96"), "--image_size: is a setting of training"),
        (
            ("--mode=compress", "--target=flops=0.5", "--notimings"),
            "--timings: nothing is measured under --target; leave it out. Received: --notimings",
        ),
        (("--cache_dir=c",), "--cache_dir: needs --keep_cache; .*Received: 'c'"),
        (("--mode=explain", "--framing=pad"), "--framing: is a setting of training, and explain takes it from the run"),
    ],
)
def test_a_flag_that_the_mode_would_not_use_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        _read(*words)


def test_the_path_of_a_message_is_the_one_that_was_written_to(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    values = flags.FlagValues()
    command_flags.define_flags(values)
    command_flags.parse(values, ["run", "--run_dir=~/runs/a", "--data=folder:~/photos"])
    paths = command_flags.named_paths(values)
    assert (paths["--run_dir"], paths["--data"]) == ("/home/me/runs/a", "/home/me/photos")
