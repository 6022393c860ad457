"""What a model costs is measured in a process of its own; one that fails is left out."""

import numpy as np
import pytest
from served import artefact

from kerasft.job import artefact_costs
from kerasft.runtimes import TensorSpec, worker
from kerasft.runtimes.model import Signature


def test_costs_are_those_of_a_process_of_its_own(tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setattr(artefact_costs, "SECONDS", 0.01)
    folder = artefact(tmp_path / "1" / "litert", "litert")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.tflite").touch()
    found = artefact_costs.measure({"litert": folder, "broken": tmp_path / "broken"})
    assert set(found) == {"litert"}
    row = found["litert"]
    assert set(row["images_per_second"]) == {"1", "32"} and min(row["images_per_second"].values()) > 0
    # Without TensorFlow a process has tens of megabytes, and is there within seconds.
    assert 20 < row["peak_rss_mb"] < 300 and 0 < row["startup_seconds"] < 60


@pytest.mark.parametrize("dies_at", ["ask", pytest.param("peak_bytes", marks=pytest.mark.large)])
def test_a_process_that_ends_while_it_is_timed_is_left_out(tmp_path, monkeypatch, dies_at):
    monkeypatch.setattr(artefact_costs, "SECONDS", 0.01)
    folders = {name: artefact(tmp_path / name / "litert", "litert") for name in ("dies", "lives")}
    method = getattr(artefact_costs._Process, dies_at)

    def dying(self, *given):
        if "dies" in str(self._child.args[-1]):
            self._child.kill()
            self._child.wait()
        return method(self, *given)

    monkeypatch.setattr(artefact_costs._Process, dies_at, dying)
    assert set(artefact_costs.measure(folders)) == {"lives"}


def test_every_batch_has_so_many_images():
    seen = []

    def call(batch):
        seen.append(np.shape(batch))
        return {}

    spec = TensorSpec((None, 4, 4, 3), np.dtype(np.float32))
    assert worker.images_per_second(Signature("images", spec, {}, call), 5, 0.01) > 0
    assert len(seen) >= 2 and set(seen) == {(5, 4, 4, 3)}
