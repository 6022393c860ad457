"""The tfds source, on a set that the tests prepare with TFDS itself: nothing is downloaded."""

import io
import shutil
import sys

import numpy as np
import pytest
from conftest import splits_of
from PIL import Image

from kerasft.data import sources
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

BUILDER = """
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets import features


class Spots(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")
    MARKED = True

    def _info(self):
        shown = {
            "image": features.Image(shape=(None, None, 3)),
            "kind": features.ClassLabel(names=["none", "spot", "bar"]),
            "tags": features.Sequence(features.ClassLabel(names=["x", "y", "z"])),
            "angle": features.Scalar(np.float32),
            "age": features.Scalar(np.int64),
        }
        keys = ("image", "kind") if self.MARKED else None
        return tfds.core.DatasetInfo(builder=self, features=features.FeaturesDict(shown), supervised_keys=keys)

    def _split_generators(self, downloads):
        return {name: self._generate_examples(name, n) for name, n in (("train", 20), ("validation", 6), ("extra", 4))}

    def _generate_examples(self, split, count):
        rng = np.random.default_rng(count)
        for i in range(count):
            image = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            kind = -1 if split == "validation" and i == 0 else 1 + i % 2
            tags = sorted({i % 3, i % 2}) if i % 5 else []
            yield i, {"image": image, "kind": kind, "tags": tags, "angle": i / 7, "age": i}


class Unmarked(Spots):
    MARKED = False


class Untrained(Spots):
    def _split_generators(self, downloads):
        return {"every": self._generate_examples("every", 20)}


class Broken(Spots):
    def _split_generators(self, downloads):
        raise ConnectionError("no route to host")
"""


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    """The folder of a package `spotted` with a builder, and a function that prepares one of its sets."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("tfds")
    (root / "spotted").mkdir()
    (root / "spotted" / "__init__.py").touch()
    (root / "spotted" / "sets.py").write_text(BUILDER)
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(root))
    patch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(root / "data"))
    tfds.disable_progress_bar()

    def prepared(name, file_format="tfrecord"):
        import spotted.sets

        builder = getattr(spotted.sets, name)(data_dir=root / file_format, file_format=file_format)
        builder.download_and_prepare()
        return builder.data_dir

    yield prepared
    patch.undo()
    sys.modules.pop("spotted", None)


def _load(argument, **settings):
    return sources.load(Config(data=f"tfds:{argument}", **settings))


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_prepared_directory(spots, file_format):
    listing = _load(spots("Spots", file_format))
    assert (listing.name, listing.task, listing.classes) == ("spots", "single_label", ("spot", "bar"))
    assert np.unique(listing.split_names, return_counts=True)[1].tolist() == [20, 5]
    assert len(set(listing.ids)) == 25
    assert sorted((finding.kind, finding.verdict) for finding in listing.findings) == [
        ("no_label", "reject"),
        ("unknown_split", "reject"),
    ]
    again = _load(spots("Spots", file_format))
    pixels = [np.asarray(Image.open(io.BytesIO(listing.read(index)))).tobytes() for index in (24, 3, 24)]
    assert pixels[0] == pixels[2] != pixels[1]
    assert [again.read(index) for index in range(25)] == [listing.read(index) for index in range(25)]
    assert (again.ids.tolist(), again.labels.tolist()) == (listing.ids.tolist(), listing.labels.tolist())


def test_what_it_reads_is_what_tfds_gives(spots):
    import tensorflow_datasets as tfds

    listing = _load(spots("Spots"))
    given = {
        (example["image"].tobytes(), int(example["kind"]))
        for example in tfds.builder_from_directory(spots("Spots")).as_dataset(split="train").as_numpy_iterator()
    }
    index = {"spot": 1, "bar": 2}
    assert given == {
        (np.asarray(Image.open(io.BytesIO(listing.read(i)))).tobytes(), index[listing.classes[listing.labels[i]]])
        for i in np.flatnonzero(listing.split_names == "train")
    }


def test_the_newest_version_of_a_folder_is_taken(spots, tmp_path):
    for version in ("1.9.0", "1.10.0", "notes"):
        shutil.copytree(spots("Spots"), tmp_path / version)
    (tmp_path / "1.9.0" / "dataset_info.json").write_text("spoiled")
    assert _load(tmp_path).name == "spots"
    (tmp_path / "1.10.0" / "dataset_info.json").write_text("spoiled")
    with pytest.raises(UserError, match="--data: cannot be opened: "):
        _load(tmp_path)


def test_every_task_of_one_set(spots):
    place = spots("Unmarked")
    several = _load(place, task="multi_label")
    assert several.classes == ("x", "y", "z")
    assert several.labels.dtype == np.float32
    assert set(map(tuple, several.labels.tolist())) <= set(np.ndindex(2, 2, 2))
    assert (several.labels.sum(1) == 0).any()
    assert _load(place, task="single_label").classes == ("spot", "bar")
    with pytest.raises(
        UserError, match=r"--data: one encoded image and one label .* unmarked has .*kind \(ClassLabel\)"
    ):
        _load(place)
    with pytest.raises(UserError, match=r"--task: .* one label for regression .* angle \(Scalar\)"):
        _load(place, task="regression")  # angle, or age?
    assert _load(spots("Spots")).task == "single_label"  # the set's own label goes before others


def test_splits_of_ones_own(spots):
    place = spots("Spots")
    data = splits_of(f"tfds:{place}", splits="train = train[:50%] ; val=train[50%:80%]; test=train[80%:]+validation;")
    assert [len(split) for split in (data.train, data.val, data.test)] == [10, 6, 9]
    bad = int(next(one.path for one in _load(place).findings if one.kind == "no_label").rpartition("__")[2])
    with pytest.raises(UserError, match=r"names the val split, .* 1 file cannot be used .* its name in --splits"):
        splits_of(f"tfds:{place}", splits=f"train=train; val=validation[{bad}:{bad + 1}]")
    assert splits_of(f"tfds:{place}", splits="train=train").counts()["val"] == {"spot": 2, "bar": 2}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ("val=validation", r"--splits: train is needed, such as train=train; the dataset has train, validation, extra"),
        ("train=train[:50%]; val=train[40%:]", r"--splits: some examples are in two splits\. Received: 'train=train"),
        ("train=train; train=extra", "--splits: names train, val and test, each once"),
        ("trian=train", "--splits: names train, val and test, each once"),
        ("train", "--splits: train: .*"),
        ("train=trian", "--splits: train: .*Unknown split 'trian'"),
        ("train=train[:50", "--splits: train: .*"),
        ("train=train; val=validation[:0]", "--splits: val is empty"),
        ("train=extra[:1]", "--data: at least two classes are needed; in train are: spot|bar"),
    ],
)
def test_wrong_splits_are_refused(spots, splits, message):
    with pytest.raises(UserError, match=message):
        _load(spots("Spots"), splits=splits)


def test_a_builder_of_ones_own_has_to_be_allowed(spots):
    path = "spotted.sets.Spots"
    with pytest.raises(
        UserError, match=r"--data: spotted\.sets\.Spots is code from outside; allow it with --allow_imp"
    ):
        _load(path)
    assert len(_load(path, allow_imports=("spotted",)).ids) == 25
    with pytest.raises(UserError, match=r"--data: spotted\.sets\.np must be a"):
        _load("spotted.sets.np", allow_imports=("spotted",))
    with pytest.raises(UserError, match=r"--data: cannot import spotted\.sets\.Sopts"):
        _load("spotted.sets.Sopts", allow_imports=("spotted",))
    with pytest.raises(UserError, match="--splits: train is needed, such as train=every; the dataset has every"):
        _load("spotted.sets.Untrained", allow_imports=("spotted",))


def test_what_cannot_be_had_is_one_line(spots, tmp_path, capfd):
    with pytest.raises(UserError) as caught:
        _load("spotted.sets.Broken", allow_imports=("spotted",))
    assert "no route to host; name a prepared directory as tfds:DIR, or set TFDS_DATA_DIR" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"no such dataset \(did you mean 'mnist'\?\)"):
        _load("mnsit")
    with pytest.raises(UserError, match=r"no dataset_info\.json in it"):
        _load(tmp_path)
    with pytest.raises(UserError, match=r"no dataset_info\.json in it"):
        _load("")
    assert capfd.readouterr() == ("", "")
