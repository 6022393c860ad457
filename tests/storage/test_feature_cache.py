"""The cache: what it gives is what would be computed, whatever happened to it before."""

import threading
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from conftest import splits_of
from filelock import FileLock

from kerasft import augment
from kerasft.data import pipeline, splits
from kerasft.evaluation import scoring
from kerasft.probes.penalised_models import SoftTargets
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.storage import disk_cache, feature_cache
from kerasft.storage.disk_cache import DiskCache
from kerasft.storage.feature_cache import CachedAugmentation

SIDE = 32


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(feature_cache, "CHUNK_ROWS", 10)  # of 28 training images: three chunks


@pytest.fixture
def split(photos):
    return splits_of(f"folder:{photos}").train


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 3))
    return keras.Model(inputs, keras.layers.Conv2D(4, 5, strides=4, activation="relu")(inputs / 255.0))


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache", 10**9, False)


@pytest.fixture
def computed(monkeypatch):
    """The spans of rows that were computed."""
    spans, stream = [], pipeline.evaluation_stream

    def noted(split, *, span=None, **given):
        spans.append((span.start, span.stop) if span else None)
        return stream(split, span=span, **given)

    monkeypatch.setattr(pipeline, "evaluation_stream", noted)
    return spans


def _direct(model, split, **given):
    return scoring.make_predictor(model)(pipeline.evaluation_stream(split, size=SIDE, batch_size=64, **given))


def test_an_entry_is_what_the_model_gives_and_is_computed_once(model, split, cache, computed):
    rows, seconds, _ = feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE)
    assert computed == [(0, 10), (10, 20), (20, 28)]
    again, before, _ = feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE)
    assert len(computed) == 3
    assert seconds == before > 0
    np.testing.assert_allclose(rows, _direct(model, split), atol=1e-6)
    np.testing.assert_array_equal(rows, again)
    assert not rows.flags.writeable


def test_an_entry_is_there_once_it_is_whole(model, split, cache):
    frozen = feature_cache.make_prefix(model)
    assert not feature_cache.has(cache, frozen, split, SIDE)
    feature_cache.load_or_compute(cache, frozen, split, SIDE)
    assert feature_cache.has(cache, frozen, split, SIDE)
    assert not feature_cache.has(cache, frozen, split, SIDE + 8)


def test_an_augmented_view_is_that_of_its_round(model, split, cache):
    layer = augment.build(specs.parse("crop | flip", "--augment"))
    frozen = feature_cache.make_prefix(model)
    views = [
        feature_cache.load_or_compute(
            cache, frozen, split, SIDE, CachedAugmentation(layer, "crop | flip", 5, turn)
        ).rows
        for turn in (0, 1)
    ]
    assert np.abs(views[0] - views[1]).max() > 0.01
    np.testing.assert_allclose(views[1], _direct(model, split, augment=layer, seed=5, round=1), atol=1e-5)


@pytest.mark.parametrize("what", ["images", "weight", "setting", "size", "seed", "recipe"])
def test_whatever_changes_the_result_changes_the_entry(model, photos, split, cache, computed, what):
    layer = augment.build(specs.parse("flip", "--augment"))
    feature_cache.load_or_compute(
        cache, feature_cache.make_prefix(model), split, SIDE, CachedAugmentation(layer, "flip", 0, 0)
    )
    computed.clear()
    view, other = CachedAugmentation(layer, "flip", 0, 0), split
    if what == "images":
        other = splits_of(f"folder:{photos}", seed=1).train
    elif what == "weight":
        kernel, bias = model.layers[-1].get_weights()
        kernel.flat[7] = np.nextafter(kernel.flat[7], 9, dtype=np.float32)
        model.layers[-1].set_weights([kernel, bias])
    elif what == "setting":
        model.layers[-1].activation = keras.activations.tanh
    elif what == "size":
        model = keras.models.clone_model(model, keras.Input((24, 24, 3)))
        other = splits.Split(split.ids, split.labels, split.read, None, split.digest)
    elif what == "seed":
        view = CachedAugmentation(layer, "flip", 1, 0)
    else:
        view = CachedAugmentation(augment.build(specs.parse("flip | color", "--augment")), "flip | color", 0, 0)
    feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), other, 24 if what == "size" else SIDE, view)
    assert len(computed) == 3


def test_what_training_alone_uses_does_not_change_the_entry(model):
    digest = feature_cache.make_prefix(model).digest
    model.layers[-1].trainable = False
    assert feature_cache.make_prefix(model).digest == digest


def test_a_layer_that_other_models_call_too_is_the_same(model):
    digest = feature_cache.make_prefix(model).digest
    again = keras.Input((SIDE, SIDE, 3))
    keras.Model(again, model.layers[-1](again))
    assert feature_cache.make_prefix(model).digest == digest


def test_a_run_of_its_own_stays_within_its_limit_too(model, split, tmp_path):
    """Phases before leave activations that the next ones do not need."""
    cache = DiskCache(tmp_path / "own", int(2.5 * feature_cache.count_bytes(model, split, "float32")), False)
    layer = augment.build(specs.parse("flip", "--augment"))
    for turn in range(4):
        feature_cache.load_or_compute(
            cache, feature_cache.make_prefix(model), split, SIDE, CachedAugmentation(layer, "flip", 0, turn)
        )
    assert len(list(cache.folder.glob("*/activations.bin"))) == 2


def test_a_flipped_byte_is_noticed_and_costs_one_chunk(model, split, cache, computed, capsys):
    rows = np.array(feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE).rows)
    (file,) = cache.folder.glob("*/activations.bin")
    with file.open("r+b") as opened:
        opened.seek(12 * rows[0].nbytes + 5)
        byte = opened.read(1)
        opened.seek(-1, 1)
        opened.write(bytes([byte[0] ^ 64]))
    computed.clear()
    np.testing.assert_array_equal(
        feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE).rows, rows
    )
    assert computed == [(10, 20)]
    assert "1 damaged chunk" in capsys.readouterr().out


def test_a_build_that_was_killed_goes_on_where_it_stopped(model, split, cache, computed, monkeypatch):
    write_meta = disk_cache.write_meta

    def killed(folder, meta):
        write_meta(folder, meta)
        if len(meta["crc32"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(disk_cache, "write_meta", killed)
    with pytest.raises(KeyboardInterrupt):
        feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE)
    monkeypatch.setattr(disk_cache, "write_meta", write_meta)
    computed.clear()
    rows = feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE).rows
    assert computed == [(20, 28)]
    np.testing.assert_allclose(rows, _direct(model, split), atol=1e-6)


def test_a_file_cut_short_is_computed_again(model, split, cache, computed):
    rows = np.array(feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE).rows)
    (file,) = cache.folder.glob("*/activations.bin")
    (file.parent / "about.json").write_text("{")
    feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE)
    with file.open("r+b") as opened:
        opened.truncate(100)
    computed.clear()
    np.testing.assert_array_equal(
        feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE).rows, rows
    )
    assert len(computed) == 3


def test_two_runs_that_want_the_same_compute_it_once(model, split, cache, computed, capsys):
    feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE)
    (entry,) = (path.parent for path in cache.folder.glob("*/activations.bin"))
    computed.clear()
    with FileLock(cache.folder / f"{entry.name}.lock", thread_local=False):
        other = threading.Thread(
            target=feature_cache.load_or_compute, args=(cache, feature_cache.make_prefix(model), split, SIDE)
        )
        other.start()
        time.sleep(0.5)
        assert other.is_alive()
        assert "waiting for another run" in capsys.readouterr().out
    other.join(20)
    assert not other.is_alive()
    assert computed == []


def test_a_kept_cache_lets_go_of_what_was_used_longest_ago(model, split, tmp_path, computed):
    frozen = feature_cache.make_prefix(model)
    one = feature_cache.count_bytes(model, split, "float32")
    cache = DiskCache(tmp_path / "kept", int(2.5 * one), True)
    layer = augment.build(specs.parse("flip", "--augment"))

    def use(turn):
        computed.clear()
        feature_cache.load_or_compute(cache, frozen, split, SIDE, CachedAugmentation(layer, "flip", 0, turn))
        time.sleep(0.05)
        return len(computed) > 0

    assert [use(0), use(1), use(0), use(2)] == [True, True, False, True]  # the third pushes out the second
    assert len(list(cache.folder.glob("*/activations.bin"))) == 2
    assert [use(0), use(1)] == [False, True]
    disk_cache.remove(cache)
    assert cache.folder.is_dir()
    disk_cache.remove(cache._replace(is_shared=False))
    assert not cache.folder.exists()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_takes_half_the_room(model, split, cache, dtype):
    rows = feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE, dtype=dtype).rows
    assert rows.dtype.itemsize == 2
    np.testing.assert_allclose(rows.astype(np.float32), _direct(model, split), rtol=1e-2, atol=1e-3)


def test_a_full_disk_is_told_in_a_line(model, split, cache, monkeypatch):
    def full(folder, meta):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_cache, "write_meta", full)
    with pytest.raises(
        UserError, match=r"--cache_gb: .*No space left on device.*--keep_cache and --cache_dir.*views=0.*Received: 1"
    ):
        feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE)


def test_who_holds_the_same_activations_shares_one_map(tmp_path):
    place, shape = tmp_path / "activations.bin", (4, 2)
    np.arange(8, dtype=np.float32).tofile(place)
    first = feature_cache._open_map(place, np.float32, shape)
    assert feature_cache._open_map(place, np.float32, shape) is first
    assert feature_cache._open_map(place, np.float32, (2, 4)) is not first
    other = tmp_path / "other.bin"
    np.zeros(8, np.float32).tofile(other)
    other.replace(place)  # another file of the same name
    again = feature_cache._open_map(place, np.float32, shape)
    assert (first[1, 1], again[1, 1]) == (3, 0)


def test_what_is_made_of_an_entry_is_kept_beside_it(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"kernel": np.arange(6.0).reshape(2, 3), "penalty": "C = 1"}

    key_parts = (np.ones(3, np.float32), "text", 3)
    for _ in range(2):
        found = feature_cache.memoize(tmp_path, key_parts, make)
        np.testing.assert_array_equal(found["kernel"], make()["kernel"])
        assert str(found["penalty"]) == "C = 1"
        made.pop()
    assert len(made) == 1
    for other in ((np.ones(3), "text", 3), (np.ones(3, np.float32), "text", 4), (np.zeros(3, np.float32), "text", 3)):
        feature_cache.memoize(tmp_path, other, make)
    assert len(made) == 4
    for file in tmp_path.glob("*.npz"):
        file.write_bytes(file.read_bytes()[:-40])
    feature_cache.memoize(tmp_path, key_parts, make)
    feature_cache.memoize(None, key_parts, make)
    assert len(made) == 6


def _graph(operation):
    inputs = keras.Input((SIDE, SIDE, 3))
    return keras.Model(inputs, operation(inputs))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: keras.ops.flip(x, axis=1), lambda x: keras.ops.flip(x, axis=2)),
        (lambda x: keras.ops.roll(x, 1, axis=1), lambda x: keras.ops.roll(x, 2, axis=1)),
        (lambda x: keras.ops.mean(x, axis=1), lambda x: keras.ops.mean(x, axis=2)),
        (lambda x: x[:, :16], lambda x: x[:, 16:]),
        (lambda x: x + np.zeros((SIDE, SIDE, 3), np.float32), lambda x: x + _one_differs()),
    ],
)
def test_the_arguments_of_plain_operations_count(one, other):
    """And constants whose middle `repr` leaves out."""
    assert feature_cache.make_prefix(_graph(one)).digest == feature_cache.make_prefix(_graph(one)).digest
    assert feature_cache.make_prefix(_graph(one)).digest != feature_cache.make_prefix(_graph(other)).digest


def test_connections_count():
    """The same operations, joined in another order."""

    def graph(swapped):
        inputs = keras.Input((SIDE, SIDE, 3))
        one, other = keras.ops.relu(inputs), keras.ops.square(inputs)
        return keras.Model(inputs, other - one if swapped else one - other)

    assert feature_cache.make_prefix(graph(True)).digest != feature_cache.make_prefix(graph(False)).digest


def test_which_output_of_an_operation_is_used_counts():
    """A half of a split, one of two calls of a layer, and what the model gives."""

    def halves(place, end):
        inputs = keras.Input((SIDE, SIDE, 4))
        part = keras.ops.split(inputs, 2, axis=-1)[place]
        return keras.Model(inputs, keras.ops.relu(part) if end else part)

    def calls(place):
        inputs = keras.Input((SIDE, SIDE, 3))
        double = keras.layers.Rescaling(2.0)
        once = double(inputs)
        return keras.Model(inputs, keras.ops.add((once, double(once))[place], inputs) + 0 * double(once))

    pairs = [[halves(place, end) for place in (0, 1)] for end in (True, False)] + [[calls(place) for place in (0, 1)]]
    for one, other in pairs:
        assert feature_cache.make_prefix(one).digest != feature_cache.make_prefix(other).digest


class Scaled(keras.layers.Layer):
    """A layer from outside, whose rate counts in inference too."""

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, inputs):
        return inputs * self.rate

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


def test_the_rate_of_dropout_does_not_count_and_that_of_other_layers_does():
    def digest(layer):
        return feature_cache.make_prefix(_graph(layer)).digest

    assert digest(keras.layers.Dropout(0.1)) == digest(keras.layers.Dropout(0.2))
    assert digest(Scaled(0.1)) == digest(Scaled(0.1, name="other")) != digest(Scaled(0.2))


@pytest.mark.parametrize("left", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_a_solution_of_which_nothing_is_left_is_computed_again(tmp_path, left):
    feature_cache.memoize(tmp_path, ("key",), lambda: {"x": 1})
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(left)
    assert feature_cache.memoize(tmp_path, ("key",), lambda: {"x": 2})["x"] == 2
    assert feature_cache.memoize(tmp_path, ("key",), lambda: {"x": 3})["x"] == 2


def _one_differs():
    constant = np.zeros((SIDE, SIDE, 3), np.float32)
    constant[16, 16] = 1
    return constant


def test_the_source_of_a_module_does_not_count(model, monkeypatch, tmp_path):
    """Only its version does."""
    digest = feature_cache.make_prefix(model).digest
    copy = tmp_path / "decode.py"
    copy.write_text("# another comment")
    monkeypatch.setattr(feature_cache.decode, "__file__", str(copy))
    assert feature_cache.make_prefix(model).digest == digest
    monkeypatch.setattr(feature_cache.decode, "DECODER_VERSION", 0)
    assert feature_cache.make_prefix(model).digest != digest


def test_every_chunk_is_looked_at_before_it_is_stored_in_half_precision(model, split, cache, monkeypatch):
    holds, seen = feature_cache.can_store, []

    def noted(values, dtype):
        seen.append(len(values))
        return holds(values * (1e9 if len(seen) == 3 else 1), dtype)

    monkeypatch.setattr(feature_cache, "can_store", noted)
    with pytest.raises(feature_cache.RangeError, match="float16 cannot store"):
        feature_cache.load_or_compute(cache, feature_cache.make_prefix(model), split, SIDE, dtype="float16")
    assert seen == [10, 10, 8]


def test_what_float16_holds():
    assert feature_cache.can_store(np.float32([0, 1, 60000]), "float16")
    assert not feature_cache.can_store(np.float32([0, 1, 70000]), "float16")
    assert not feature_cache.can_store(np.float32([np.nan]), "float16")


def test_of_two_runs_one_computes_and_both_have_it(tmp_path):
    began, calls = threading.Barrier(2), []

    def compute():
        calls.append(1)
        time.sleep(0.2)
        return {"x": np.arange(3)}

    def run(_):
        began.wait()
        return feature_cache.memoize(tmp_path / "entry", ("key",), compute)["x"].tolist()

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(run, range(2))] == [[0, 1, 2]] * 2
    assert len(calls) == 1


def test_what_a_teacher_answers_keeps_its_name_in_keys(tmp_path):
    parts = np.eye(2), 2.0, 0.5
    before = namedtuple("Taught", ("answers", "temperature", "weight"))(*parts)
    feature_cache.memoize(tmp_path, ("probe", before), lambda: {"a": 1.0})
    found = feature_cache.memoize(tmp_path, ("probe", SoftTargets(*parts)), lambda: pytest.fail("another key"))
    assert found["a"] == 1.0
