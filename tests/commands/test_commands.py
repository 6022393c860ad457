"""`layers`, `presets` and `flags`: what they print is true."""

import subprocess
import sys

import pytest
from conftest import ROOT

from kerasft import commands, strategies
from kerasft.commands import flags, layers
from kerasft.settings import command_flags, presets
from kerasft.settings import config as configs
from kerasft.settings.config import Config
from kerasft.strategies import freezing


@pytest.fixture(scope="module")
def network():
    from kerasft.networks import network as networks

    asked = Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=64, head_init="zeros")
    return networks.build(asked, 2, "single_label")


def test_a_fraction_unfreezes_the_block_that_it_stands_beside(network):

    found = [block for block in layers.blocks(network) if block.fraction is not None]
    for block in found[1:]:  # a fraction of 1 is the whole backbone, input layer and all
        assert freezing.first_layer(network, strategies.top(unfreeze=block.fraction)) == block.layers[0]
        trainable, _ = freezing.apply(network, strategies.top(unfreeze=block.fraction, batch_norm="train"))
        head = sum(layer.count_params() for layer in network.head_layers() if layer.trainable_weights)
        statistics = sum(
            sum(weight.shape[0] for weight in layer.non_trainable_weights)
            for layer in network.model.layers
            if layer.name in network.backbone[network.backbone.index(block.layers[0]) :]
        )
        assert trainable - head + statistics == block.above
    freezing.release(network)


def test_blocks_hold_every_layer_once(network):
    found = layers.blocks(network)
    assert tuple(name for block in found for name in block.layers) == network.backbone
    backbone = sum(layer.count_params() for layer in network.model.layers if layer.name in network.backbone)
    assert found[0].above == sum(block.parameters for block in found) == backbone == 218_544


def test_every_fraction_of_every_count_of_blocks():
    import math

    for total in range(1, 130):
        for wanted in range(1, total + 1):
            assert math.ceil(layers.unfreeze(wanted, total) * total) == wanted


def test_layers_as_a_table(network):
    short, long = layers.table(network, every=False), layers.table(network, every=True)
    assert short.splitlines()[-3].startswith("MobileNet: 218,544 parameters in 27 blocks, images of 64 pixels.")
    assert next(line for line in short.splitlines() if " conv_pw_13 " in line).split() == [
        *("27", "conv_pw_13", "2x2x256", "66,560", "0.03", "66,560"),
    ]
    assert len(long.splitlines()) == len(network.backbone) + 5


def test_presets_are_listed_with_their_purpose(capsys):
    commands.run("presets", [])
    printed = " ".join(capsys.readouterr().out.split())
    for name in presets.names():
        assert f"{name} {presets.purpose(name)}" in printed


def test_the_page_of_flags_is_the_one_in_the_documentation():
    assert (ROOT / "docs" / "flags.md").read_text() == flags.page() + "\n", "run `make flags`"


def test_the_page_of_flags_has_all_of_them():
    page = flags.page()
    for name in [*command_flags.COMMAND, *configs.FIELDS]:
        assert f"| `--{name}` |" in page or f"| `--[no]{name}` |" in page
    assert all(line.replace("\\|", "").count("|") in (0, 3, 4) for line in page.splitlines())


@pytest.mark.large
def test_an_installed_package_has_the_presets(tmp_path):
    pytest.importorskip("setuptools")
    source = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path / "w"),
    ]
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    copy = tmp_path / "source"
    for name in filter(None, tracked.decode().split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*source, str(copy)], check=True, timeout=300)
    (wheel,) = (tmp_path / "w").glob("*.whl")
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, timeout=300)
    code = "from kerasft.settings import presets; print(presets.folder()); print(*presets.names())"
    environment = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [str(target / "kerasft" / "presets"), " ".join(presets.names())]
    assert (target / "bin" / "kerasft").is_file()
