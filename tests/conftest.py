"""Small real data for all tests, and the command as a user runs it."""

import contextlib
import functools
import gc
import io
import os
import subprocess
import sys
from pathlib import Path

import forks
import numpy as np
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
# Tracing makes millions of objects, which few collections of garbage find anything among.
gc.set_threshold(50_000, 20, 100)
if "PYTEST_XDIST_WORKER" in os.environ:  # side by side, each with one thread: more of them only wait for each other
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SMALL = {  # constructor of keras.applications -> its module: one of each kind that is quick to build
    "MobileNet(alpha=0.25)": "mobilenet",
    "MobileNetV2(alpha=0.35)": "mobilenet_v2",
    "MobileNetV3Small": "mobilenet_v3",
}
LARGE = {
    "MobileNetV3Large": "mobilenet_v3",
    **dict.fromkeys(("ResNet50", "ResNet101", "ResNet152"), "resnet"),
    **dict.fromkeys(("ResNet50V2", "ResNet101V2", "ResNet152V2"), "resnet_v2"),
    **dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), "densenet"),
    **{f"EfficientNetB{i}": "efficientnet" for i in range(8)},
    **{f"EfficientNetV2{i}": "efficientnet_v2" for i in ("B0", "B1", "B2", "B3", "S", "M", "L")},
    **{f"ConvNeXt{i}": "convnext" for i in ("Tiny", "Small", "Base", "Large", "XLarge")},
    "VGG16": "vgg16",
    "VGG19": "vgg19",
    "Xception": "xception",
    "InceptionV3": "inception_v3",
    "InceptionResNetV2": "inception_resnet_v2",
    "NASNetMobile": "nasnet",
    "NASNetLarge": "nasnet",
}
EVERY_BACKBONE = [*SMALL, *(pytest.param(name, marks=pytest.mark.large) for name in LARGE)]


SLOW = (  # from 20 seconds on
    "test_mistakes",
    "test_strategy_contract",
    "test_backbones",
    "test_trainer",
    "test_checkpointer",
    "test_train",
    "test_fitting",
    "test_budgeting",
    "test_tune",
    "test_freezing",
    "test_phase_inputs",
    "test_saved_model",
    "test_feature_cache",
    "test_surgery_contract",
    "test_network",
    "test_dry_run",
    "test_distillation",
)


def pytest_configure() -> None:
    # kserve reads the command line of the process when it is imported.
    del sys.argv[1:]


def pytest_collection_modifyitems(items: list) -> None:
    """The modules that take longest first, so that of several workers none is left alone with one of them."""
    places = {name: index for index, name in enumerate(SLOW)}
    items.sort(key=lambda item: places.get(item.module.__name__.rpartition(".")[2], len(SLOW)))


def pytest_collection_finish() -> None:
    """What all modules have imported is no garbage. To look for some in it takes most of a second, after each module."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _forget_models():
    """Keras keeps names and graphs of every model of the process: a quarter of a second to forget them, so once a module."""
    yield
    _forget()


@pytest.fixture(autouse=True)
def _forget_large_models(request):
    """With the large ones that is gigabytes."""
    yield
    if request.node.get_closest_marker("large"):
        _forget()


def _forget() -> None:
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()


def shared(*parts: str) -> Path:
    """A path in the folder of real photographs and weights, or a skip where it is missing."""
    path = Path(os.environ.get("KERASFT_SHARED", ROOT.parent / "shared"), *parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} of the shared folder (KERASFT_SHARED)")
    return path


def make_image(kind: str, rng: np.random.Generator, width: int = 60, height: int = 48) -> Image.Image:
    """A noisy background with a disc or a square in a random place and colour."""
    noise = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    x, y, side = rng.integers(4, width - 30), rng.integers(4, height - 30), rng.integers(16, 26)
    draw = ImageDraw.Draw(image)
    box = (int(x), int(y), int(x + side), int(y + side))
    colour = tuple(int(c) for c in rng.integers(150, 255, 3))
    draw.ellipse(box, fill=colour) if kind == "disc" else draw.rectangle(box, fill=colour)
    return image


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Two classes of 24 JPEGs each, one sub-folder a class."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    rng = np.random.default_rng(7)
    for kind in ("disc", "square"):
        (root / kind).mkdir(parents=True)
        for index in range(24):
            make_image(kind, rng).save(root / kind / f"{index:02d}.jpg", quality=90)
    return root


def digit(index: int, side: int) -> tuple[Image.Image, int]:
    """A handwritten digit (UCI Optical Recognition of Handwritten Digits), enlarged, and what it is."""
    images, labels = _digits()
    pixels = np.uint8(np.round(images[index] * 255 / 16))
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR), int(labels[index])


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target


@pytest.fixture(scope="session")
def two_digits(tmp_path_factory) -> Path:
    """A table of 400 images that each hold two handwritten digits from 0 to 4, with both as labels."""
    root = tmp_path_factory.mktemp("two_digits")
    rng = np.random.default_rng(3)
    rows = ["path,label"]
    known = [index for index in range(900) if digit(index, 8)[1] < 5]
    for index in range(400):
        canvas, names = Image.new("L", (32, 32)), set()
        for left in (0, 16):
            image, name = digit(int(rng.choice(known)), 16)
            canvas.paste(image, (left, int(rng.integers(0, 17))))
            names.add(f"digit {name}")
        canvas.save(root / f"{index:03d}.png")
        rows.append(f"{index:03d}.png,{'|'.join(sorted(names))}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root / "labels.csv"


@pytest.fixture(scope="session")
def angles(tmp_path_factory) -> Path:
    """A table of 300 images of a bar, with the angle that it is turned by in degrees, and a far larger target."""
    root = tmp_path_factory.mktemp("angles")
    rng = np.random.default_rng(4)
    rows = ["path,angle,height"]
    for index in range(300):
        angle, height = float(rng.uniform(-60, 60)), int(rng.integers(4, 12))
        canvas = Image.new("L", (32, 32), int(rng.integers(0, 60)))
        ImageDraw.Draw(canvas).rectangle((14 - height // 2, 4, 14 + height // 2, 28), fill=220)
        canvas.rotate(angle, Image.Resampling.BILINEAR, fillcolor=30).save(root / f"{index:03d}.png")
        rows.append(f"{index:03d}.png,{angle:.2f},{height * 1000}")
    (root / "targets.csv").write_text("\n".join(rows) + "\n")
    return root / "targets.csv"


@pytest.fixture(scope="session")
def _forks():
    """The process of `forks`, begun when a command first needs it."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda: stack.enter_context(forks.server()))


@pytest.fixture
def command(_forks):
    """Runs `python -m kerasft.run` and returns it finished.

    It runs in a fork of a process that has imported TensorFlow and run nothing, which saves four seconds a command. Under
    `module=` it is a process of its own from the start.
    """

    def run(*flags: str, cwd: Path, module: str | None = None) -> subprocess.CompletedProcess:
        if module is None:
            done = forks.run(_forks(), list(flags), cwd, seconds=600, env={**os.environ})
            return subprocess.CompletedProcess(flags, done.status, done.out, forks.without_gpu_notices(done.err))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
        line = [sys.executable, "-m", module, *flags]
        return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)

    return run


def write(path: Path, kind: str = "disc", seed: int = 0) -> None:
    """An image in a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_image(kind, np.random.default_rng(seed)).save(path)


def rotten(path: Path, seed: int) -> None:
    """A JPEG one bit of which flipped: it is decoded, and libjpeg complains."""
    file = io.BytesIO()
    make_image("disc", np.random.default_rng(seed), 200, 160).save(file, "JPEG", quality=90)
    contents = bytearray(file.getvalue())
    contents[len(contents) // 3] ^= 0x55
    path.write_bytes(contents)


@pytest.fixture
def split_folder(tmp_path) -> Path:
    """Discs and squares under train/, val/ and test/: 6, 2 and 3 of each."""
    root = tmp_path / "set"
    seed = 0
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        for kind in ("disc", "square"):
            for index in range(count):
                seed += 1
                write(root / part / kind / f"{index}.png", kind, seed)
    return root


def audited(data: str, size: int = 32, **settings):
    """The audited Listing of a source, and what gives its images of this many pixels a side."""
    from kerasft.data import audit, sources
    from kerasft.settings.config import Config

    listing = sources.load(Config(data=data, **settings))
    return audit.audit(listing, size, lambda count: None, audit.make_memory_store(len(listing.ids), size))


def splits_of(data: str, seed: int = 0, val: float = 0.25, test: float = 0.25, **settings):
    """The Splits of a source, as the job makes them."""
    from kerasft.data import splits

    return splits.make_splits(*audited(data, **settings), val, test, seed, settings.get("per_class_limit"))


@pytest.fixture(scope="session")
def blind(tmp_path_factory) -> str:
    """A saved network of 48x48 pixels that sees the mean colour alone. It has fewer multiplications than `tiny`."""
    import keras

    inputs = keras.Input((48, 48, 3))
    hidden = keras.layers.AveragePooling2D(48)(keras.layers.Rescaling(1 / 255)(inputs))
    path = tmp_path_factory.mktemp("blind") / "blind.keras"
    keras.Model(inputs, keras.layers.Conv2D(4, 1)(hidden)).save(path)
    return str(path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> str:
    """A saved backbone of four small blocks for images of 32x32: quick to build, compile and train."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    hidden = layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for index, filters in enumerate((8, 12, 16, 24), 1):
        hidden = layers.Conv2D(filters, 3, strides=2, use_bias=False, padding="same", name=f"conv_{index}")(hidden)
        hidden = layers.BatchNormalization(name=f"bn_{index}")(hidden)
        hidden = layers.ReLU(name=f"relu_{index}")(hidden)
    path = tmp_path_factory.mktemp("backbone") / "tiny.keras"
    keras.Model(inputs, hidden).save(path)
    return str(path)


@pytest.fixture(scope="session")
def flat(tmp_path_factory) -> str:
    """A saved backbone that takes images of 64x64 alone, for it flattens them."""
    import keras

    layers = keras.layers
    inputs = keras.Input((64, 64, 3))
    hidden = layers.Conv2D(4, 3, strides=8)(layers.Rescaling(1 / 127.5, -1.0)(inputs))
    path = tmp_path_factory.mktemp("backbone") / "flat.keras"
    keras.Model(inputs, layers.Dense(5)(layers.Flatten()(hidden))).save(path)
    return str(path)
