import io
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tests.pickling import PROTOCOLS, picture, read


def same(first, second):
    if isinstance(first, Image.Image):
        return type(second) is Image.Image and first.mode == second.mode and np.array_equal(np.array(first), np.array(second))
    if isinstance(first, np.ndarray | torch.Tensor):
        first = np.asarray(first)
        return type(second) is np.ndarray and first.dtype == second.dtype and np.array_equal(first, second)
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return type(second) is dict and list(first) == list(second) and same(list(first.values()), list(second.values()))
    return type(first) is type(second) and first == second


def from_file(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return Image.open(buffer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles")


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.binary(max_size=20)
    | hnp.arrays(
        st.sampled_from(["bool", "uint8", "int16", "<i4", "int64", "float16", "float32", "<f8", "complex64"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        elements={"allow_nan": False},
    )
    | st.sampled_from([np.int64(-7), np.uint8(255), np.float32(0.1), np.bool_(True)])
)
KEYS = st.text(max_size=5) | st.integers(-5, 5) | st.binary(max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(TREES, st.sampled_from(PROTOCOLS))
def test_data_comes_back_as_it_was_at_every_protocol(folder, tree, protocol):
    assert same(tree, read(pickle.dumps(tree, protocol), folder))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_setups_come_back_whichever_numpy_wrote_them(tmp_path, protocol, core):
    setups = [
        {"target class": np.int64(3), "target index": 17, "base class": np.int64(i), "base indices": np.arange(500) * i}
        for i in range(4)
    ]
    content = pickle.dumps(setups, protocol)
    if protocol < 4:  # later protocols prefix the name with its length
        content = content.replace(b"numpy._core", core.encode())
    elif core == "numpy.core":
        for name in (b"multiarray", b"numeric"):
            old, new = b"numpy._core." + name, b"numpy.core." + name
            before = len(content)
            content = content.replace(struct.pack("B", len(old)) + old, struct.pack("B", len(new)) + new)
            if len(content) < before:
                content = content[:3] + struct.pack("<Q", struct.unpack("<Q", content[3:11])[0] - 1) + content[11:]
        assert b"_core" not in content and same(setups, pickle.loads(content))
    assert same(setups, read(content, tmp_path))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        np.arange(6).reshape(2, 3).T,
        np.arange(10)[::3],
        np.asfortranarray(np.ones((2, 3))),
    ],
)
def test_arrays_in_any_memory_order_come_back_and_may_be_written_to(tmp_path, protocol, array):
    result = read(pickle.dumps(array, protocol), tmp_path)
    assert same(array, result)
    result[...] = 0


def test_foreign_byte_order_becomes_native(tmp_path):
    result = read(pickle.dumps([np.arange(5, dtype=">i4"), np.float32(2.5).astype(">f4")]), tmp_path)
    assert result[0].dtype == np.int32 and result[0].tolist() == [0, 1, 2, 3, 4] and result[1] == 2.5
    torch.from_numpy(result[0])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", [None, "PNG", "JPEG", "BMP"])
def test_images_of_any_class_come_back_as_plain_ones(tmp_path, protocol, mode, kind):
    image = picture(mode) if kind is None else from_file(picture(mode), kind)
    image.info["comment"] = "metadata"
    assert kind is None or type(image) is not Image.Image
    result = read(pickle.dumps([(image, 3), (image, 3)], protocol), tmp_path)
    assert same([(image, 3), (image, 3)], result) and result[0][0].info == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(3, 5, 5),
        torch.rand(3, 8, 8)[:, 2:5, 1:4],
        torch.arange(6).reshape(2, 3).T,
        torch.tensor(3),
        torch.empty(0, 2),
    ],
)
def test_tensors_come_back_as_arrays(tmp_path, protocol, tensor):
    assert same((tensor, [1, 2]), read(pickle.dumps((tensor, [1, 2]), protocol), tmp_path))
