"""Images made by formulas: the same every time, one of a class like the others, classes unlike each other."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from kerasft.data import sources
from kerasft.data.sources import formulas, generated
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

KINDS = range(len(formulas.KINDS))


def test_the_listing():
    listing = sources.load(Config(data="generated:7x3"))
    assert listing.task == "single_label"
    assert listing.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6]
    assert len(set(listing.ids)) == len(listing.ids) == 21
    assert listing.ids[4] == f"{listing.classes[1]}/00001.png"
    assert len(set(listing.classes)) == 7
    assert listing.read(4) == generated.encode_png(1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_a_png_of_the_stated_size(kind):
    image = Image.open(io.BytesIO(generated.encode_png(kind, 5)))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (formulas.SIDE, formulas.SIDE))
    assert np.asarray(image).std() > 5


@pytest.mark.parametrize("kind", KINDS)
def test_images_depend_on_class_and_instance_alone(kind):
    """In whatever order, in whatever thread, and with formulas that are forgotten in between."""
    asked = [(kind + len(KINDS) * (i % 3), i // 3) for i in range(12)]
    once = [generated.draw_image(*which) for which in asked]
    for cached in vars(formulas).values():
        getattr(cached, "cache_clear", lambda: None)()
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda which: generated.draw_image(*which), reversed(asked)))
    np.testing.assert_array_equal(once, again[::-1])
    assert len({image.tobytes() for image in once}) == len(asked)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_distinct(kind):
    """Two classes of a kind have other formulas: drawn with the same random numbers they give other images."""
    first, second = (generated.draw_image(label, 0) for label in (kind, kind + len(KINDS)))
    found = [_formula(kind + len(KINDS) * i) for i in range(50)]
    assert len(set(map(str, found))) == 50
    assert np.abs(first.astype(int) - second).mean() > 5


def _formula(label: int):
    return formulas.KINDS[generated.NAMES[label % len(KINDS)]].formula(label)


@pytest.mark.parametrize("argument", ["", "10", "1x5", "5x0", "axb", "5x", "-5x5", "5x5x5"])
def test_another_argument_is_refused(argument):
    with pytest.raises(UserError, match=r"--data: generated needs CLASSESxIMAGES.*Received: 'generated:"):
        sources.load(Config(data=f"generated:{argument}"))
