"""What an answer costs, by hand."""

import keras
import numpy as np

from kerasft.evaluation import scoring
from kerasft.job import costs
from kerasft.networks.network import Network


def _network(tta: str) -> Network:
    image = keras.Input([4, 4, 3])
    values = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, padding="same")(image))
    model = keras.Model(image, keras.layers.Dense(5)(values))
    return Network(model, "tiny", "single_label", 4, False, "zeros", (), (), tta=tta)


def test_costs_are_those_of_what_is_served(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"1" * 70)
    (tmp_path / "variables" / "variables.index").write_bytes(b"1" * 30)
    network = _network("none")
    seen = []
    forward = scoring.make_predictor(network.model)

    def watched(batches):
        seen.extend(len(batch) for batch in batches)
        return forward(batches)

    found = costs.measure(network, watched, tmp_path)
    assert found["parameters"] == (27 * 2 + 2) + (32 * 5 + 5)
    assert found["macs"] == 16 * 27 * 2 + 32 * 5
    assert found["bytes"] == 100
    assert set(seen) == {1, 32} and found["images_per_second"].keys() == {"1", "32"}
    assert np.isfinite(list(found["images_per_second"].values())).all()
    assert costs.measure(_network("flip"), forward, tmp_path)["macs"] == 2 * found["macs"]
