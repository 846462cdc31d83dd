import numpy as np
import pytest
from PIL import Image

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.pickles import read_pickle

PROTOCOLS = range(6)


def read(content, folder):
    path = folder / "some.pickle"
    path.write_bytes(content)
    return read_pickle(path, "--poisons")


def refused(content, folder):
    with pytest.raises(InputError, match=r"some\.pickle .*\(--poisons\)$") as caught:
        read(content, folder)
    assert len(str(caught.value)) < 400
    return str(caught.value)


def picture(mode="RGB", size=(5, 3)):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
