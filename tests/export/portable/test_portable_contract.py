"""What every portable format keeps: it answers like the network, by the program that is shipped, or is not published."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import audited

from kerasft.data import pipeline, splits
from kerasft.evaluation import scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.export import proof
from kerasft.export.artefact import Answer
from kerasft.export.portable import FORMATS, publish
from kerasft.networks import network as networks
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

EVERY = (
    "keras(precision=int8)",
    "keras(precision=int4)",
    "litert",
    "litert(precision=float16)",
    "litert(precision=dynamic)",
    "litert(precision=int8)",
    "onnx",
    "onnx(precision=int8)",
    "openvino",
)
FILES = {"labels.txt", "model.json", "predict.py", "image_decoding.py", "runtime.py", "requirements.txt", "proof.json"}


def formats(text):
    try:
        return publish.parse_formats(specs.parse(text, "--export"))
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def trained(photos, tiny):
    """A small network with a random head, its data, and its probabilities for the test images."""
    config = Config(backbone=tiny, image_size=32, head_init="he_normal")
    network = networks.build(config, 2, "single_label")
    listing, images = audited(f"folder:{photos}")
    data = splits.make_splits(listing, images, 0.2, 0.2, 0)
    batches = pipeline.evaluation_stream(data.test, size=32, batch_size=8)
    outputs = scoring.make_predictor(network.model)(batches)
    return network, data, scoring.apply_activation("single_label", outputs)


@pytest.fixture(scope="module")
def tested(trained):
    network, data, expected = trained
    scorer = Scorer("single_label", data.test.labels)
    return publish.ProofInputs("single_label", data.test, scorer, expected, network.size, max_drop=1.0)


def test_every_format_is_covered():
    assert {specs.parse_one(text, "").name for text in EVERY} == set(FORMATS)


@pytest.mark.parametrize("text", EVERY)
def test_an_artefact_answers_like_the_network(trained, tested, tmp_path, text):
    network, data, expected = trained
    (row,) = publish.publish(formats(text), network, Answer("r", data.classes), data, tested, tmp_path)
    assert row["published"], row["reason"]
    assert (row["artefact"], row["n"]) == (text, len(data.test))
    (folder,) = tmp_path.iterdir()
    assert folder.as_posix() == row["path"]
    names = {path.name for path in folder.iterdir()}
    # A runtime of browsers has a page.
    assert ("index.html" in names) == text.startswith("onnx")
    assert names >= FILES and names - FILES <= {
        *("model.tflite", "model.onnx", "model.xml", "model.bin", "model.q8.npz", "model.q4.npz", "index.html")
    }
    assert json.loads((folder / "proof.json").read_text()) == row
    images = np.stack(list(data.test.images(np.arange(4)))).astype(np.float32)
    found = publish.load(folder)(images)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-3)
    if formats(text)[0].exact:
        assert row["max_abs_diff"] < proof.TOLERANCE
        np.testing.assert_allclose(found, expected[:4], atol=proof.TOLERANCE)


def test_the_shipped_program_labels_files_without_kerasft(trained, tested, tmp_path, photos):
    network, data, expected = trained
    (row,) = publish.publish(formats("onnx"), network, Answer("r", data.classes), data, tested, tmp_path)
    files = [str(photos / name) for name in data.test.ids[:3]]
    code = "import sys; sys.modules['kerasft'] = sys.modules['tensorflow'] = None\n"
    code += f"sys.argv = {['predict.py', *files]!r}\nimport runpy; sys.path.insert(0, {row['path']!r})\n"
    code += f"runpy.run_path({row['path'] + '/predict.py'!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines] == files
    found = np.array([[line["probabilities"][name] for name in data.classes] for line in lines])
    np.testing.assert_allclose(found, expected[:3], atol=row["decoding_max_abs_diff"] + proof.TOLERANCE)
    assert [line["label"] for line in lines] == [data.classes[row.argmax()] for row in found]


@pytest.mark.parametrize("text", ["onnx", "litert(precision=int8)"])
def test_what_answers_otherwise_is_not_published(trained, tested, tmp_path, text):
    network, data, expected = trained
    wrong = replace(tested, expected=expected[:, ::-1], max_drop=0.0, retrain="kerasft train --phases=quantised")
    # The network would be right with every image.
    wrong = replace(wrong, scorer=Scorer("single_label", wrong.expected.argmax(-1).astype(np.int32)))
    (row,) = publish.publish(formats(text), network, Answer("r", data.classes), data, wrong, tmp_path)
    assert not row["published"]
    assert ("differ by up to" if text == "onnx" else "--max_drop=0") in row["reason"]
    # Only what lost it by rounding is told how to train for that.
    assert row["reason"].endswith(
        "; try litert(precision=float16), or train for 8 bits: kerasft train --phases=quantised"
    ) == (text != "onnx")
    assert list(tmp_path.iterdir()) == []


def _breaks(source, folder):
    raise RuntimeError("no such operator")


def _refused(formats, inputs):
    """The same formats and inputs, so that nothing is published."""
    names = {"unwritten": "no such operator", "worse": "--max_drop", "unread": "cannot read the test image"}
    yield names["unwritten"], [replace(one, write=_breaks) for one in formats], inputs
    # The network would be right with every image.
    scorer = Scorer("single_label", inputs.expected.argmax(-1).astype(np.int32))
    yield names["worse"], formats, replace(inputs, scorer=scorer, max_drop=-1.0)
    yield names["unread"], formats, replace(inputs, split=replace(inputs.split, read=lambda row: b"no image"))


@pytest.mark.parametrize("case", range(3))
def test_an_earlier_artefact_goes_where_the_new_one_is_refused(trained, tested, tmp_path, case):
    """Else it would be taken for one of the new network."""
    network, data, _ = trained
    says, chosen, inputs = list(_refused(formats("onnx"), tested))[case]
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").touch()
    (tmp_path / "litert").mkdir()
    (row,) = publish.publish(chosen, network, Answer("r", data.classes), data, inputs, tmp_path)
    assert not row["published"] and says in row["reason"]
    # A format that was not asked for stays.
    assert [path.name for path in tmp_path.iterdir()] == ["litert"]


def test_images_that_the_shipped_decoder_refuses_are_named_and_no_error(trained, tested, tmp_path):
    network, data, _ = trained
    split = replace(data.test, read=lambda row: b"no image" if row in (2, 5) else data.test.read(row))
    rows = publish.publish(
        formats("keras(precision=int8) | onnx"),
        network,
        Answer("r", data.classes),
        data,
        replace(tested, split=split),
        tmp_path,
    )
    named = f"its decoder cannot read the test image '{data.test.ids[2]}' (cannot identify image file) and 1 more"
    assert [(row["published"], row["reason"]) for row in rows] == [(False, named)] * 2
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_converted_is_a_row_and_no_error(trained, tested, tmp_path):
    network, data, _ = trained

    def breaks(source, folder):
        raise RuntimeError("no such operator")

    broken = [replace(one, write=breaks) for one in formats("onnx")]
    (row,) = publish.publish(broken, network, Answer("r", data.classes), data, tested, tmp_path)
    assert not row["published"] and "no such operator" in row["reason"]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(publish.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--export: openvino needs .*openvino: pip install 'kerasft\[lite\]'"):
        publish.parse_formats(specs.parse("openvino", "--export"))


def test_the_saved_model_is_no_portable_format():
    assert publish.parse_formats(specs.parse("savedmodel", "--export")) == []
    with pytest.raises(UserError, match=r"--export: must be one of .*savedmodel.* Received: 'coreml'"):
        publish.parse_formats(specs.parse("coreml", "--export"))
