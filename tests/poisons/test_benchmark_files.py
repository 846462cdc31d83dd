import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from poison_and_defend.core.errors import InputError
from poison_and_defend.poisons.benchmark_files import BenchmarkPoisons, read_benchmark, read_npz, write_benchmark, write_npz

NAMES = ("poisons", "base_indices", "target")


def poisons(count=4, channels=3, height=8, width=8, patch=None, location=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count + 1, channels, height, width), generator=generator, dtype=torch.uint8)
    values = None if patch is None else np.random.default_rng(seed).random((channels, patch, patch), np.float32)
    return BenchmarkPoisons(images[1:], 6, np.arange(count) * 7 + 3, images[0], 2, values, location)


def same(first, second):
    return (
        torch.equal(first.images, second.images)
        and torch.equal(first.target, second.target)
        and np.array_equal(first.base_indices, second.base_indices)
        and second.base_indices.dtype == np.int64
        and (first.label, first.target_label, first.location) == (second.label, second.target_label, second.location)
        and (first.patch is None) == (second.patch is None)
        and (first.patch is None or np.array_equal(first.patch, second.patch))
    )


@st.composite
def values(draw):
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    patch = draw(st.none() | st.integers(1, min(height, width)))
    location = None if patch is None else (draw(st.integers(0, width - patch)), draw(st.integers(0, height - patch)))
    return poisons(
        draw(st.integers(1, 4)), draw(st.sampled_from([1, 3])), height, width, patch, location, draw(st.integers(0, 9))
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


@given(values())
def test_what_is_written_is_read_back(folder, value):
    write_benchmark(folder, value)
    write_npz(folder / "poisons.npz", value)
    assert same(value, read_benchmark(folder)) and same(value, read_npz(folder / "poisons.npz"))
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(f"{name}.pickle" for name in NAMES), "poisons.npz"])


def test_the_pickles_are_what_the_benchmark_loads(tmp_path):
    value = poisons(patch=5, location=(2, 1))
    write_benchmark(tmp_path, value)
    pairs, indices, (target, label, patch, place) = (pickle.loads((tmp_path / f"{name}.pickle").read_bytes()) for name in NAMES)
    assert all(type(image) is Image.Image and image.mode == "RGB" and type(own) is int for image, own in pairs)
    assert np.array_equal(np.array(pairs[1][0]), value.images[1].permute(1, 2, 0).numpy())
    assert indices == [3, 10, 17, 24] and all(type(index) is int for index in indices)
    assert target.size == (8, 8) and (type(label), label) == (int, 2)
    assert isinstance(patch, torch.Tensor) and patch.dtype == torch.float32 and patch.shape == (3, 5, 5) and place == [2, 1]


def test_the_arrays_of_an_npz_have_channels_last(tmp_path):
    value = poisons(channels=1, height=6, patch=2, location=(6, 4))
    write_npz(tmp_path / "poisons.npz", value)
    with np.load(tmp_path / "poisons.npz", allow_pickle=False) as file:
        shapes = {name: (file[name].shape, file[name].dtype.name) for name in file.files}
    assert shapes == {
        "poisons": ((4, 6, 8, 1), "uint8"),
        "labels": ((4,), "int64"),
        "base_indices": ((4,), "int64"),
        "target": ((6, 8, 1), "uint8"),
        "target_label": ((), "int64"),
        "patch": ((1, 2, 2), "float32"),
        "location": ((2,), "int64"),
    }


def dump(folder, **contents):
    write_benchmark(folder, poisons(patch=3, location=(0, 0)))
    for name, content in contents.items():
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(content))


def image(size=(8, 8), mode="RGB"):
    return Image.new(mode, size, 7)


@pytest.mark.parametrize("indices", [np.arange(4), [np.int64(i) for i in range(4)], (0, 1, 2, 3), np.arange(4, dtype=np.uint8)])
@pytest.mark.parametrize("patch", [torch.rand(3, 2, 2, dtype=torch.float64), np.ones((3, 2, 2)), [[[0, 1], [1, 0]]] * 3])
def test_other_ways_to_say_the_same_are_read(tmp_path, indices, patch):
    pairs = tuple([image(), np.int64(6)] for _ in range(4))
    dump(tmp_path, poisons=pairs, base_indices=indices, target=[image(), torch.tensor(2), patch, np.array([1, 2])])
    value = read_benchmark(tmp_path)
    assert value.base_indices.tolist() == [0, 1, 2, 3] and value.label == 6 and value.location == (1, 2)
    assert value.patch.dtype == np.float32 and np.array_equal(value.patch, np.array(patch, np.float32))


PAIRS = [(image(), 6)] * 4


@pytest.mark.parametrize(
    ("reason", "contents"),
    [
        ("of one label, not of 2", {"poisons": [*PAIRS[1:], (image(), 5)]}),
        ("of one size and mode, not 2", {"poisons": [*PAIRS[1:], (image((8, 9)), 6)]}),
        ("of one size and mode, not 2", {"poisons": [*PAIRS[1:], (image(mode="L"), 6)]}),
        ("of one size and mode, not 0", {"poisons": []}),
        ("an image before every label", {"poisons": [(6, image())]}),
        ("does not hold", {"poisons": [image()]}),
        ("does not hold", {"poisons": [(image(), "cat")]}),
        ("does not hold", {"poisons": [(image(), 6.0)]}),
        ("63 bits", {"poisons": [(image(), -1)] * 4}),
        ("63 bits", {"poisons": [(image(), 1 << 63)] * 4}),
        ("a list of (image, label)", {"poisons": {"a": 1}}),
        ("a list of (image, label)", {"target": image()}),
        ("of 2 or 4 parts", {"target": (image(), 2, np.ones((3, 2, 2)))}),
        ("the target is", {"target": (image((8, 7)), 2)}),
        ("the target is", {"target": (image(mode="L"), 2)}),
        ("mode 'P'", {"target": (Image.new("P", (8, 8)), 2)}),
        ("the patch is", {"target": (image(), 2, np.ones((1, 2, 2)), [0, 0])}),
        ("the patch is", {"target": (image(), 2, np.ones((3, 2, 3)), [0, 0])}),
        ("the patch is", {"target": (image(), 2, np.ones((3, 0, 0)), [0, 0])}),
        ("the patch is", {"target": (image(), 2, np.float32(1), [0, 0])}),
        ("outside [0, 1]", {"target": (image(), 2, np.full((3, 2, 2), 255), [0, 0])}),
        ("outside [0, 1]", {"target": (image(), 2, np.full((3, 2, 2), np.nan), [0, 0])}),
        ("leaves the target", {"target": (image(), 2, np.ones((3, 2, 2)), [7, 0])}),
        ("leaves the target", {"target": (image(), 2, np.ones((3, 2, 2)), [0, -1])}),
        ("leaves the target", {"target": (image(), 2, np.ones((3, 9, 9)), [0, 0])}),
        ("a patch needs a location", {"target": (image(), 2, np.ones((3, 2, 2)), None)}),
        ("does not hold", {"target": (image(), 2, np.ones((3, 2, 2)), [0, 0, 0])}),
        ("does not hold", {"target": (image(), 2, [[1], [2, 3]], [0, 0])}),
        ("as many int64 base indices", {"base_indices": [1, 2, 3]}),
        ("as many int64 base indices", {"base_indices": []}),
        ("63 bits", {"base_indices": [1, 2, 3, -1]}),
        ("does not hold", {"base_indices": [1, 2, 3, 1 << 63]}),
        ("does not hold", {"base_indices": [1.0, 2.0, 3.0, 4.0]}),
        ("does not hold", {"base_indices": 4}),
        ("asks for builtins.eval", {"base_indices": eval}),
    ],
)
def test_poisons_that_disagree_are_refused(tmp_path, reason, contents):
    dump(tmp_path, **contents)
    with pytest.raises(InputError, match=r"\(--from\)$") as caught:
        read_benchmark(tmp_path, "--from")
    assert reason in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_missing_pickle_is_named(tmp_path):
    write_benchmark(tmp_path, poisons())
    (tmp_path / "target.pickle").unlink()
    with pytest.raises(InputError, match=r"target\.pickle: No such file"):
        read_benchmark(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"images": torch.rand(4, 3, 8, 8)},
        {"images": torch.zeros(4, 2, 8, 8, dtype=torch.uint8)},
        {"images": torch.zeros(0, 3, 8, 8, dtype=torch.uint8)},
        {"target": torch.rand(3, 8, 8)},
        {"base_indices": np.arange(4.0)},
        {"base_indices": np.arange(8).reshape(4, 2)},
        {"label": -1},
        {"location": (0, 0)},
        {"patch": np.ones((3, 2, 2), np.float32)},
        {"patch": np.ones((3, 2, 2)), "location": (0, 0)},
    ],
)
def test_a_value_checks_itself(change):
    with pytest.raises(InputError):
        replace(poisons(), **change)


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("no array labels", {"labels": None}),
        ("of one label, not of 4", {"labels": np.arange(4)}),
        ("of one label, not of 0", {"labels": np.arange(0)}),
        ("no .npz of poisons", {"labels": np.array([1, None], object)}),
        ("no .npz of poisons", {"labels": np.ones(4)}),
        ("no .npz of poisons", {"target_label": np.arange(2)}),
        ("no .npz of poisons", {"poisons": np.zeros((8, 8), np.uint8)}),
        ("no .npz of poisons", {"poisons": np.array(["text"])}),
        ("the poisons are", {"poisons": np.zeros((4, 8, 8, 3))}),
        ("the target is", {"target": np.zeros((3, 8, 8), np.uint8)}),
        ("location", {"patch": None}),
    ],
)
def test_an_npz_that_disagrees_is_refused(tmp_path, reason, change):
    path = tmp_path / "poisons.npz"
    write_npz(path, poisons(patch=2, location=(0, 0)))
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files} | change
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(InputError, match=r"poisons\.npz.*\(--from\)$") as caught:
        read_npz(path, "--from")
    assert reason in str(caught.value)


def test_an_npz_that_is_cut_or_none_is_refused(tmp_path):
    path = tmp_path / "poisons.npz"
    write_npz(path, poisons(patch=2, location=(0, 0)))
    content = path.read_bytes()
    pieces = [content[:length] for length in range(0, len(content), 17)]
    for piece in [*pieces, pickle.dumps(poisons), b"text"]:
        path.write_bytes(piece)
        with pytest.raises(InputError, match=r"poisons\.npz"):
            read_npz(path)
    np.save(tmp_path / "one.npy", np.arange(3))
    for name in ("one.npy", "missing.npz", "."):
        with pytest.raises(InputError, match=r"\(--file\)$"):
            read_npz(tmp_path / name)


@given(st.data())
def test_a_damaged_npz_is_read_or_refused_but_never_crashes(folder, data):
    path = folder / "damaged.npz"
    write_npz(path, poisons(count=1))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read_npz(path)
    except InputError as error:
        assert str(error).endswith("(--file)")
    finally:
        path.unlink()
