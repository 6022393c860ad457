"""`kerasft compress --target`: steps, the gate, resume, and what is refused. Trainings are made up but for one."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import finished
import keras
import pytest
from PIL import Image

from kerasft.job import train
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.slim import slimming
from kerasft.slim.step_surgeries import Candidate
from kerasft.slim.target import Sizes

WHOLE = Sizes(1_000_000, 5_000)


def made_up_run(folder: Path, sizes: Sizes, backbone: str = "x", image_size: int = 224) -> dict:
    """A finished run folder; its figures are made up, and its network is an empty file."""
    metrics = finished.run_folder(folder, "single_label", ["disc", "square"]) | {"framing": "crop"}
    metrics["image_size"] = image_size
    metrics["cost"] |= {"macs": sizes.multiplications, "parameters": sizes.parameters}
    metrics["val"]["accuracy"] = 0.9
    (folder / "model.keras").write_bytes(b"")
    (folder / "metrics.json").write_text(json.dumps(metrics))
    settings = {"data": "generated:2x20", "backbone": backbone, "seed": 7, "surgery": "prune(0.1)", "teacher": "other"}
    settings |= {"baseline": "served", "gate": True, "budget_minutes": 3.0, "weights": "none", "batch_size": 16}
    settings |= {"image_size": image_size, "setting_of_a_later_version": 3}
    (folder / "config.json").write_text(json.dumps(settings))
    return metrics


@pytest.fixture
def run(tmp_path) -> Path:
    made_up_run(tmp_path / "run", WHOLE)
    return tmp_path / "run"


@pytest.fixture
def trainings(run, monkeypatch):
    """Stands for networks and trainings. Returns the trainings that were begun, and the validation figures by surgery.

    Networks of less than a tenth cannot be made.
    """
    begun, figures, planned = [], {"prune": (0.4, 0.89), "truncate": (0.5, 0.88)}, {}

    def find(network, target, limit):
        share = limit / WHOLE.of(target)
        names = [f"{name}({share:.6f})" for name in ("prune", "truncate")] if share > 0.1 else []
        planned.update((name, Sizes(*(int(share * size) for size in WHOLE))) for name in names)
        return [Candidate(name, planned[name]) for name in names]

    def score(config, framing):
        begun.append(config)
        assert framing == json.loads((run / "metrics.json").read_text())["framing"]
        loss, accuracy = figures["image_size" if config.image_size else config.surgery.partition("(")[0]]
        return SimpleNamespace(figures={"val": {"loss": loss, "accuracy": accuracy}}, seconds={"train": 1.0})

    def export(config):
        return train.Run(Path(config.run_dir), made_up_run(Path(config.run_dir), planned[config.surgery]))

    monkeypatch.setattr(slimming.networks, "build", lambda *_: None)
    monkeypatch.setattr(slimming.step_surgeries, "sizes_of", lambda _: WHOLE)
    monkeypatch.setattr(slimming.step_surgeries, "find", find)
    monkeypatch.setattr(slimming.score, "train_and_score", score)
    monkeypatch.setattr(slimming.train, "train", export)
    monkeypatch.setattr(slimming, "_forget", lambda: None)
    monkeypatch.setattr(slimming.resizing, "split_digest", lambda *_: "same")
    return begun, figures


def test_steps_lead_to_the_target(run, trainings, capsys):
    begun, _ = trainings
    found = slimming.slim(Config(phases="head"), str(run), "flops=0.5")
    assert found["finished"] and found["met"]
    shares = [row["shares"]["multiplications"] for row in found["rows"]]
    assert shares[0] == 1 and shares[-1] <= 0.5 < shares[-2]
    # The better one of each step is the network of the next.
    assert all(row["surgery"].startswith("prune") for row in found["rows"][1:])
    assert [Path(one.backbone) for one in begun[2:]] == 2 * [run / "slim/flops-0.5/1-prune/model.keras"]
    for one in begun:
        assert (one.data, one.phases, one.framing) == ("generated:2x20", "head", "auto")
        assert one.export_dir == "saved_models/slim"
        assert (one.seed, one.batch_size, one.teacher, one.baseline, one.gate) == (7, 16, "", "", False)
        assert (one.weights, one.budget_minutes) == ("auto", None) and one.surgery.startswith(("prune", "truncate"))
    assert json.loads((run / "slim/flops-0.5/slim.json").read_text()) == found
    assert {"value", "interval", "n", "same"} <= found["rows"][1]["difference"].keys()
    printed = capsys.readouterr().out
    plan = "about 2 steps, each of up to 3 runs with --phases=head; the run itself took 1\u00a0h\u00a01\u00a0min"
    assert printed.startswith(f"slim: flops=0.5: {plan}")
    assert "step 1: truncate" in printed and "is kept" in printed and "the target is met" in printed


def test_the_lower_validation_loss_is_kept(run, trainings):
    trainings[1]["truncate"] = (0.3, 0.5)
    found = slimming.slim(Config(), str(run), "parameters=0.5")
    assert found["rows"][1]["surgery"].startswith("truncate")


def test_a_stopped_command_goes_on_where_it_was_and_a_finished_one_does_nothing(run, trainings, monkeypatch, capsys):
    begun, _ = trainings
    whole, finish = slimming.score.train_and_score, slimming.train.train

    def stop(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(slimming.train, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        slimming.slim(Config(), str(run), "flops=0.6")
    assert len(begun) == 2
    monkeypatch.setattr(slimming.train, "train", finish)
    assert slimming.slim(Config(), str(run), "flops=0.6")["met"]
    assert len(begun) == len({one.run_dir for one in begun}) == 4
    slimming.slim(Config(), str(run), "flops=0.6")
    assert len(begun) == 4 and "nothing to do" in capsys.readouterr().out
    with pytest.raises(UserError, match="--phases: was 'auto' when this target was begun"):
        slimming.slim(Config(phases="head"), str(run), "flops=0.6")
    monkeypatch.setattr(slimming.score, "train_and_score", whole)
    slimming.slim(Config(phases="head", resume=False), str(run), "flops=0.6")
    assert len(begun) == 8


def test_the_drop_ends_it_before_the_step_that_costs_too_much(run, trainings):
    found = slimming.slim(Config(), str(run), "flops=0.5, drop=0.005")
    assert [row["name"] for row in found["rows"]] == ["run"]
    assert not found["met"] and "more than drop=0.005; the network before it is kept" in found["reason"]


def test_without_a_share_it_goes_on_as_long_as_something_can_be_removed(run, trainings, capsys):
    found = slimming.slim(Config(), str(run), "drop=0.05")
    assert "slim: drop=0.05: as many steps as it allows, each of up to 3 runs" in capsys.readouterr().out
    left = [row["multiplications"] for row in found["rows"]]
    assert len(left) > 3 and left == sorted(set(left), reverse=True)
    assert found["met"] and "neither pruning nor truncation nor smaller images leave" in found["reason"]


def test_what_cannot_be_made_so_small_is_made_as_small_as_it_can(run, trainings):
    found = slimming.slim(Config(), str(run), "flops=0.05")
    assert not found["met"] and 0.1 < found["rows"][-1]["shares"]["multiplications"] < 0.2
    assert "neither pruning nor truncation nor smaller images leave" in found["reason"]


def test_what_has_nothing_to_remove_is_refused(run, trainings, monkeypatch):
    monkeypatch.setattr(slimming.step_surgeries, "find", lambda *_: [])
    with pytest.raises(UserError, match=r"--target: nothing can be removed: .*Received: 'flops=0.5'"):
        slimming.slim(Config(), str(run), "flops=0.5")


@pytest.fixture
def with_resizing(trainings, monkeypatch):
    """As `trainings`, and in the first step smaller images, which are the better way. Returns what the audits find at a size."""
    found, splits = slimming.step_surgeries.find, {}
    sizes = Sizes(600_000, 5_000)

    def find(network, target, limit):
        first = limit / WHOLE.of(target) > 0.6
        return [*found(network, target, limit), *[Candidate("image_size(160)", sizes)] * first]

    def export(config):
        if config.image_size:
            return train.Run(
                Path(config.run_dir), made_up_run(Path(config.run_dir), sizes, image_size=config.image_size)
            )
        before = json.loads((Path(config.backbone).parent / "metrics.json").read_text())
        return train.Run(
            Path(config.run_dir),
            made_up_run(Path(config.run_dir), Sizes(450_000, 4_000), image_size=before["image_size"]),
        )

    trainings[1]["image_size"] = (0.3, 0.9)
    monkeypatch.setattr(slimming.step_surgeries, "find", find)
    monkeypatch.setattr(slimming.train, "train", export)
    monkeypatch.setattr(slimming.resizing, "split_digest", lambda config, size, _: splits.get(size, "same"))
    return splits


def test_smaller_images_are_a_way_of_a_step(run, trainings, with_resizing, capsys):
    begun, _ = trainings
    found = slimming.slim(Config(phases="head | all(epochs=2, image_size=192)"), str(run), "flops=0.5")
    first, second, third = found["rows"]
    assert (first["image_size"], second["image_size"], third["image_size"]) == (224, 160, 160)
    assert second["surgery"] == "image_size(160)" and third["surgery"].startswith("prune")
    assert Path(second["run_dir"]) == run / "slim/flops-0.5/1-image_size"
    whole, small = [one for one in begun if one.surgery == "none"], begun[3:]
    # The run on smaller images begins with the same network, and without a surgery.
    assert [(one.image_size, Path(one.backbone)) for one in whole] == [(160, run / "model.keras")]
    # A phase on smaller images than the run's stays in proportion; so 192 of 224 become 160 of 160.
    assert [one.phases for one in begun[:2]] == 2 * ["head | all(epochs=2, image_size=192)"]
    assert [one.phases for one in (*whole, *small)] == 3 * ["head | all(epochs=2)"]
    # Later steps take the size from the saved network, whatever the run's `--image_size` was.
    assert all(one.image_size is None and Path(one.backbone).parent.name == "1-image_size" for one in small)
    assert "160 pixels" in capsys.readouterr().out


def test_a_size_that_would_change_the_splits_is_left_out(run, trainings, with_resizing, capsys):
    with_resizing[160] = "others"
    found = slimming.slim(Config(), str(run), "flops=0.8, drop=0.5")
    assert {row["surgery"].partition("(")[0] for row in found["tried"]} == {"prune", "truncate"}
    assert "image_size(160) is left out: at that size other images count as copies" in capsys.readouterr().out


def test_steps_are_audited_as_a_run_that_chose_its_framing_itself(run, trainings):
    _change(run / "config.json", framing="auto")
    _change(run / "metrics.json", framing="pad")
    slimming.slim(Config(), str(run), "flops=0.8")
    assert {one.framing for one in trainings[0]} == {"auto"}


def test_a_file_of_another_version_is_taken_up_and_a_damaged_one_begun_anew(run, trainings):
    place = run / "slim/flops-0.8/slim.json"
    slimming.slim(Config(), str(run), "flops=0.8")
    stored = json.loads(place.read_text())
    del stored["unlabelled"], stored["reason"]
    place.write_text(json.dumps(stored | {"later": 1}))
    found = slimming.slim(Config(), str(run), "flops=0.8")
    assert found["met"] and len(trainings[0]) == 2 and "later" not in found
    place.write_text("{")
    with pytest.raises(UserError, match=r"slim.json is damaged .*--noresume"):
        slimming.slim(Config(), str(run), "flops=0.8")
    assert slimming.slim(Config(resume=False), str(run), "flops=0.8")["met"]


@pytest.mark.parametrize(("name", "then", "now"), [("export_dir", "a", "b"), ("max_drop", 0.25, 0.5)])
def test_a_target_that_was_begun_keeps_where_and_what_it_exports(run, trainings, name, then, now):
    place = run / "slim/flops-0.8/slim.json"
    assert slimming.slim(Config(**{name: then}), str(run), "flops=0.8")[name] == then
    with pytest.raises(UserError, match=rf"--{name}: was {then!r} when this .* Received: {now!r}"):
        slimming.slim(Config(**{name: now}), str(run), "flops=0.8")
    # A file of an earlier version does not say it.
    stored = json.loads(place.read_text())
    del stored[name]
    place.write_text(json.dumps(stored))
    assert slimming.slim(Config(**{name: now}), str(run), "flops=0.8")["met"]


def test_the_soup_of_a_step_is_without_other_runs(run, trainings):
    _change(run / "config.json", average="ema | soup(runs=('runs/a', 'runs/b'))")
    slimming.slim(Config(), str(run), "flops=0.8")
    assert {one.average for one in trainings[0]} == {"ema | soup"}


def test_no_step_is_trained_on_other_splits_than_the_run(run, trainings):
    _change(run / "metrics.json", data_digest="others")
    with pytest.raises(UserError, match=r"--data: its images fall into other splits .*Received: 'generated:2x20'"):
        slimming.slim(Config(), str(run), "flops=0.8")
    assert not trainings[0]
    _change(run / "metrics.json", data_digest="same")
    assert slimming.slim(Config(), str(run), "flops=0.8")["met"]


def _change(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_run_without_its_images_or_that_is_none_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="--model: must be the folder of a finished run"):
        slimming.slim(Config(), str(tmp_path), "flops=0.5")
    (run / "config.json").write_text(json.dumps({"data": "folder:gone", "backbone": "x"}))
    with pytest.raises(UserError, match=r"--data: .*gone"):
        slimming.slim(Config(), str(run), "flops=0.5")


def test_a_run_without_labels_to_judge_by_is_refused(run, trainings):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["task"], metrics["val"], metrics["test"] = "multi_label", {"map": 0.5}, {"map": None}
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="--model: no image of test has a label"):
        slimming.slim(Config(), str(run), "flops=0.5")
    assert not trainings[0]


def test_the_gate_of_values_is_in_deviations():
    target, before = slimming.parse("drop=0.1"), {"val": {"scaled_mae": 0.30}}
    best = {"surgery": "prune(0.1)", "validation_score": -0.39}
    assert slimming._lost(target, "regression", best, before) == ""
    assert "0.1100" in slimming._lost(target, "regression", best | {"validation_score": -0.41}, before)


@pytest.mark.large
def test_a_run_is_made_smaller_by_one_command(tiny, command, tmp_path):
    small = ["--batch_size=16", "--precision=float32", "--jit=off"]
    flags = ["--data=digits", f"--backbone={tiny}", "--phases=head | all(epochs=3)", "--per_class_limit=30"]
    assert command(*flags, *small, "--run_dir=run", "--notensorboard", cwd=tmp_path).returncode == 0
    line = ["compress", "--model=run", "--target=flops=0.6", "--phases=head | all(epochs=2)"]
    done = command(*line, cwd=tmp_path, module="kerasft")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the target is met" in done.stdout
    found = json.loads((tmp_path / "run/slim/flops-0.6/slim.json").read_text())
    last = found["rows"][-1]
    assert last["shares"]["multiplications"] <= 0.6 and last["interval"][0] < last["accuracy"] < last["interval"][1]
    assert not (tmp_path / "run/slim/flops-0.6/cache").exists()
    metrics = json.loads((Path(tmp_path, last["run_dir"]) / "metrics.json").read_text())
    assert metrics["export"]["top1_agreement"] == 1 and metrics["cost"]["macs"] == last["multiplications"]
    again = command(*line, cwd=tmp_path, module="kerasft")
    assert again.returncode == 0 and "nothing to do" in again.stdout


@pytest.mark.large
def test_a_step_to_smaller_images_serves_images_of_any_size(command, tmp_path):
    """Nothing can be pruned or truncated here, so smaller images are the only way."""
    layers = keras.layers
    inputs = keras.Input((96, 96, 3))
    hidden = layers.Conv2D(24, 7, strides=6, activation="relu")(layers.Rescaling(1 / 127.5, -1.0)(inputs))
    keras.Model(inputs, layers.UnitNormalization()(hidden)).save(tmp_path / "one.keras")
    small = ["--batch_size=16", "--precision=float32", "--jit=off", "--backbone=one.keras", "--notensorboard"]
    phases = "--phases=head | all(epochs=1, image_size=64)"
    done = command("--data=digits", *small, phases, "--per_class_limit=30", "--run_dir=run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    line = ["compress", "--model=run", "--target=flops=0.7", phases]
    done = command(*line, cwd=tmp_path, module="kerasft")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "run/slim/flops-0.7/slim.json").read_text())
    assert [row["surgery"] for row in found["tried"]] == ["image_size(64)"] and found["met"]
    first, last = found["rows"]
    assert (first["image_size"], last["image_size"]) == (96, 64)
    assert last["multiplications"] == found["tried"][0]["multiplications"] and last["n"] == first["n"]
    metrics = json.loads((Path(tmp_path, last["run_dir"]) / "metrics.json").read_text())
    assert metrics["image_size"] == 64 and metrics["export"]["top1_agreement"] == 1
    # The phase trains on the network's own images: two thirds of them are less than a size that pads alike.
    config = json.loads((Path(tmp_path, last["run_dir"]) / "config.json").read_text())
    assert config["phases"] == "head | all(epochs=1)" and config["image_size"] == 64
    about = json.loads((Path(tmp_path, last["path"]) / "assets.extra/kerasft.json").read_text())
    assert about["image_size"] == 64
    for size in ((30, 20), (300, 410)):
        Image.new("RGB", size, (200, 200, 200)).save(tmp_path / f"{size[0]}.png")
    done = command("predict", f"--model={last['path']}", "--images=*.png", cwd=tmp_path, module="kerasft")
    assert done.returncode == 0 and "30.png" in done.stdout and "300.png" in done.stdout
    if importlib.util.find_spec("tf2onnx"):
        done = command("compress", "--model=run", "--export=onnx", "--max_drop=1", cwd=tmp_path, module="kerasft")
        assert (done.returncode, done.stderr) == (0, "")
        rows = json.loads((tmp_path / "run/compress.json").read_text())["rows"]
        assert [row["artefact"] for row in rows] == ["savedmodel", "onnx", "flops-0.7/1-image_size"]
        assert rows[2]["parent"] == "savedmodel" and rows[2]["accuracy"] == last["accuracy"]
        assert 0 < rows[2]["agreement"] <= 1 and rows[2]["startup_seconds"] > 0
        assert "image_size(64)</bdi>, made of 1" in (tmp_path / "run/compress.html").read_text()


def test_the_scores_of_several_targets_are_in_deviations_and_those_of_an_earlier_version_too(tmp_path, trainings):
    run = tmp_path / "values"
    metrics = finished.run_folder(run, "regression", ["width", "mass"])
    _change(run / "metrics.json", framing="crop")
    _change(run / "config.json", data="generated:2x20", backbone="x")
    (run / "model.keras").write_bytes(b"")
    place = run / "slim/flops-0.8"
    place.mkdir(parents=True)
    row = {"name": "run", "run_dir": run.as_posix(), "path": "x", "mae": 500.0, "interval": [0.2, 0.3], "loss": 0.2}
    row |= {"image_size": 224, "difference": None, "multiplications": 1, "parameters": 1, "bytes": 1}
    row["shares"] = dict.fromkeys(("multiplications", "parameters", "bytes"), 1.0)
    stored = {"target": "flops=0.8", "task": "regression", "score": "mae", "rows": [row], "finished": True}
    gone = row | {"run_dir": (tmp_path / "gone").as_posix()}
    (place / "slim.json").write_text(json.dumps(stored | {"rows": [row, gone]}))
    found = slimming.slim(Config(), str(run), "flops=0.8")
    assert found["score"] == "scaled_mae" and not trainings[0]
    assert [one["scaled_mae"] for one in found["rows"]] == [metrics["test"]["scaled_mae"], None]


def test_what_a_step_costs_a_quantile_is_its_pinball_loss_in_deviations():
    """The step slips to the median, and lowers the absolute error."""
    before = {"scaled_mae": 1.5, "loss": 0.2, "pinball": 20.0, "quantile": 0.9}
    step = {"scaled_mae": 0.8, "loss": 0.4, "pinball": 40.0, "quantile": 0.9}
    best = {"surgery": "prune(0.5)", "validation_score": slimming._score("regression", step)}
    lost = slimming._lost(slimming.parse("drop=0.1"), "regression", best, {"val": before})
    assert lost == "prune(0.5) costs 0.2000 of the validation score, more than drop=0.1"
    assert slimming._score("regression", before | {"quantile": 0.5}) == -1.5
