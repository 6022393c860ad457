"""The grammar of `--search`: what it reads, what it refuses and how, and the Configs that it gives."""

from dataclasses import replace

import pytest

from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.tune import search_space

EXAMPLE = (
    "lr=log(1e-5, 1e-2); optimizer=choice(adamw, sgd(momentum=0.9), nadam); head.dropout=uniform(0, 0.5); "
    "augment=choice(flip | rotate(15), none); backbone=choice(MobileNet(alpha=0.25), 'own.keras'); "
    "patience=choice(none, 3); batch_size=int(8, 30, step=8); optimizer.sgd.momentum=uniform(0.5, 0.99)"
)


def test_every_distribution_is_read():
    space = {dimension.name: dimension for dimension in search_space.parse(EXAMPLE, Config())}
    assert [space[name].kind for name in ("lr", "optimizer", "head.dropout", "batch_size")] == [
        "log",
        "choice",
        "uniform",
        "int",
    ]
    assert space["optimizer"].options == ("adamw", "sgd(momentum=0.9)", "nadam")
    assert space["augment"].options == ("flip | rotate(15)", "none")
    assert (space["batch_size"].low, space["batch_size"].high, space["batch_size"].step) == (8, 24, 8)
    assert (space["lr"].low, space["lr"].high) == (1e-5, 1e-2)
    assert space["optimizer.sgd.momentum"].parent_options == ("sgd(momentum=0.9)",)
    assert not space["patience"].numeric


def test_numbers_of_a_choice_stay_numbers_of_one_type():
    (mixed,) = search_space.parse("lr=choice(1, 0.1)", Config())
    assert mixed.options == (1.0, 0.1)
    (whole,) = search_space.parse("batch_size=choice(8, 32)", Config())
    assert whole.options == (8, 32) and whole.value(32) == 32
    assert whole.numeric


def test_values_become_a_config():
    config = Config(phases="head(epochs=2) | all(epochs=3, lr=1e-3)", augment="flip | rotate")
    text = EXAMPLE + "; head=choice(linear, mlp); phases.all.lr=log(1e-5, 1e-3); augment.rotate.degrees=uniform(5, 30)"
    text = text.replace("augment=choice(flip | rotate(15), none); ", "")
    values = {"optimizer": "sgd(momentum=0.9)", "optimizer.sgd.momentum": 0.75, "head": "mlp", "head.dropout": 0.25}
    values |= {"patience": "none", "batch_size": 16, "phases.all.lr": 2e-4, "augment.rotate.degrees": 7.5}
    values |= {"lr": 1e-3, "backbone": "own.keras"}
    found = search_space.apply_values(config, search_space.parse(text, config), values)
    assert (found.optimizer, found.head) == ("sgd(momentum=0.75)", "mlp(dropout=0.25)")
    assert found.phases == "head(epochs=2) | all(epochs=3, lr=0.0002)"
    assert found.augment == "flip | rotate(degrees=7.5)"
    assert (found.patience, found.batch_size, found.backbone) == (None, 16, "own.keras")
    assert search_space.apply_values(config, search_space.parse(text, config), {"patience": "3"}).patience == 3


@pytest.mark.parametrize(
    ("text", "phases"),
    [
        ("lr_scaling=choice(auto, none)", "head(epochs=2) | auto"),
        ("lr_scaling=choice(auto, none); phases=choice(auto, all(epochs=3))", "all(epochs=2)"),
    ],
)
def test_the_scaling_of_rates_is_searched_where_auto_chooses_them(text, phases):
    assert "lr_scaling" in [dimension.name for dimension in search_space.parse(text, Config(phases=phases))]


@pytest.mark.parametrize("distribution", ["choice(1, 2, auto)", "choice(1, 2)", "int(1, 2)"])
def test_a_number_may_be_the_text_of_a_setting(distribution):
    (dimension,) = space = search_space.parse(f"features={distribution}", Config())
    option = dimension.boundaries[1]
    assert search_space.apply_values(Config(), space, {"features": option}).features == "2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--search: needs at least one setting"),
        ("lr", "--search: must be name=distribution(...), separated by ;. Received: 'lr'"),
        ("lrr=log(1, 2)", "(did you mean 'lr'?). Received: 'lrr'"),
        ("batchsize=int(1, 2)", "(did you mean 'batch_size'?)"),
        ("lr=lug(1, 2)", "--search, lr: must be one of choice, int, log, uniform (did you mean 'log'?)"),
        ("lr=log(2, 1)", "log() needs two numbers, the lower one first. Received: 'log(2, 1)'"),
        ("lr=log(0, 1)", "log() needs numbers above 0"),
        ("lr=log(1)", "log() missing a required argument: 'high'"),
        ("lr=log(1, 'x')", "log() needs two numbers"),
        ("lr=choice()", "choice() needs at least one value"),
        ("lr=choice(1, 1)", "choice() has a value twice"),
        ("batch_size=int(1.5, 3)", "int() needs whole numbers"),
        ("batch_size=int(0, 3)", "--search, batch_size: --batch_size: must be in [1, 65536]. Received: 0"),
        ("batch_size=uniform(8, 16)", "--batch_size: must be a whole number. Received: 8.0"),
        ("batch_size.x=int(1, 3)", "--search: batch_size takes no arguments. Received: 'batch_size.x'"),
        ("lr=log(1, 2); lr=log(1, 2)", "--search: names lr twice"),
        ("lr=log(1e-5", "'(' was never closed"),
        ("lr=__import__('os').system('true')", "Received: "),
        ("lr=log(1, 2) + 3", "Received: "),
        ("data=choice(digits)", "--search: data chooses the images"),
        ("seed=int(0, 3)", "--search: seed chooses the images"),
        ("exclude=choice('a.txt', none)", "--search: exclude chooses the images"),
        ("unlabelled=choice('folder:a', none)", "--search: unlabelled chooses the images"),
        ("tta=choice(none, flip)", "tta changes no trial, so trials cannot be ranked by it; --tta=auto chooses it"),
        ("abstain.keep=uniform(0.8, 0.9)", "--search: abstain changes no trial"),
        ("coverage=choice(0.8, 0.9)", "--search: coverage changes no trial"),
        ("budget_minutes=choice(1, 9)", "--search: budget_minutes changes no trial"),
        ("cache_gb=choice(0, 8)", "--search: cache_gb changes no trial"),
        ("lr=choice(adamw, 0.1)", "--search, lr: must be numbers. Received: 'choice(adamw, 0.1)'"),
        ("epochs=choice(none, 3)", "--search, epochs: must be numbers. Received: 'choice(none, 3)'"),
        ("epochs=choice(0, 3)", "--search, epochs: must be whole numbers of at least 1"),
        ("epochs=uniform(1, 4)", "--search, epochs: must be whole numbers of at least 1"),
        ("epochs=int(0, 4)", "--search, epochs: must be whole numbers of at least 1"),
        ("run_dir=choice(a, b)", "Received: 'run_dir'"),
        ("head..x=int(1, 2)", "must be field, field.argument or field.NAME.argument"),
        ("phases.lr=log(1e-4, 1e-3)", "phases.lr needs --phases to be named, not auto"),
        ("augment=choice(flip | rotate); augment.degrees=int(1, 3)", "write augment.NAME.degrees"),
        ("optimizer.sgd.momentum=uniform(0, 1)", "sgd is not in --optimizer=adamw"),
        ("optimizer=choice(adamw, lion); optimizer.sgd.momentum=uniform(0, 1)", "sgd is in none of the choices"),
        ("optimizer=choice(adamw, mine.Best)", "mine.Best is code from outside; allow it with --allow_imports=mine"),
        ("sampling=choice(uniform, balance)", "(did you mean 'balanced'?)"),
    ],
)
def test_what_it_refuses(text, message):
    with pytest.raises(UserError) as raised:
        search_space.parse(text, Config())
    assert message in str(raised.value)
    assert "Received: " in str(raised.value)


@pytest.mark.parametrize(
    ("text", "asked", "message"),
    [
        ("lr=log(1e-4, 1e-2)", {"tuner": "randm"}, "--tuner: must be one of bayesian, grid, hyperband, random"),
        ("lr=log(1e-4, 1e-2)", {"tuner": "random(trails=3)"}, "takes trials (did you mean 'trials'?)"),
        ("lr=log(1e-4, 1e-2)", {"tuner": "random(trials=0)"}, "trials must be a whole number of at least 1"),
        ("lr=log(1e-4, 1e-2)", {"objective": "val_acuracy"}, "(did you mean 'val_accuracy'?)"),
        ("optimizer=choice(adamw, adamv)", {}, "--search, optimizer=adamv: --optimizer: must be one of"),
        ("head.dropoot=uniform(0, 0.5)", {}, "linear() takes pooling, dropout (did you mean 'dropout'?)"),
        (
            "augment=choice(flip | rotate(15), flip); augment.rotate.degrees=uniform(5, 30)",
            {},
            "--augment: rotate() must have its argument degrees by name, as degrees=..., so that it can be searched",
        ),
        (
            "lr_scaling=choice(auto, none)",
            {},
            "--search: lr_scaling is of the rates that auto chooses, and no trial has",
        ),
        ("lr=log(1e-2, 100)", {}, "lr must be a number in (0, 10]"),
        ("epochs=int(1, 3)", {"tuner": "hyperband"}, "hyperband sets the epochs itself"),
    ],
)
def test_a_mistake_is_told_before_an_image_is_read(text, asked, message, photos, tmp_path, capsys):
    from kerasft.tune import tune

    config = Config(data=f"folder:{photos}", weights="none", image_size=32, precision="float32", run_dir=str(tmp_path))
    config = replace(config, phases="all(epochs=1)")
    with pytest.raises(UserError) as raised:
        tune(config, text, **{"tuner": "random", "objective": "val_loss", **asked})
    assert message in str(raised.value)
    assert "Received: " in str(raised.value)
    assert "audit" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["loss=choice(mse, mae)", "loss.delta=uniform(1, 3)"])
def test_regression_is_not_ranked_by_losses_that_differ(text, angles, tmp_path):
    from kerasft.tune.hypermodel import HyperModel

    config = Config(data=f"csv:{angles}", weights="none", image_size=32, precision="float32")
    model = HyperModel(replace(config, phases="all(epochs=1)", loss="huber(delta=1)"), text, tmp_path)
    assert model.objective("val_mae").direction == "min"
    with pytest.raises(UserError, match="names loss, and each trial would be measured with its own"):
        model.objective("val_loss")


def test_a_mistake_at_the_command_line(photos, command, tmp_path):
    flags = (f"--data=folder:{photos}", "--weights=none", "--image_size=32", "--phases=head(epochs=0)")
    done = command("--mode=tune", *flags, "--search=lr=log(1e-4, 1e-2)", cwd=tmp_path)
    assert done.returncode == 2
    assert "need a phase with epochs" in done.stderr
    assert "Traceback" not in done.stderr
