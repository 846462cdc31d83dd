import collections
import copyreg
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading import pickles
from poison_and_defend.core.reading.pickles import read_pickle
from tests.pickling import PROTOCOLS, picture, read, refused


class Call:
    """Pickles as a call of anything with anything, as an attacker would."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def touch(path):
    return f"open({str(path)!r}, 'w')"


def attacks(sentinel):
    code = touch(sentinel)
    shell = f"touch {sentinel}"
    dtype = np.dtype("i8")
    array = np._core.multiarray._reconstruct
    yield "posix.system", Call(os.system, (shell,))
    yield "eval", Call(eval, (code,))
    yield "exec", Call(exec, (code,))
    yield "getattr", Call(getattr, ("", "join"))
    yield "numpy", Call(np.load, (str(sentinel), None, True))
    yield "numpy", Call(np.fromfile, (str(sentinel),))
    yield "torch", Call(torch.load, (str(sentinel), None, None))
    yield "Image.open", Call(Image.open, (str(sentinel),))
    yield "image", Call(copyreg._reconstructor, (np.ndarray, object, None))
    yield "set|SET", {1, 2}
    yield "complex", 1j
    yield "range", range(3)
    yield "OrderedDict|pickle", Call(collections.OrderedDict, ([("a", 1)],))
    yield "bytes|pickle", Call(bytes, (1 << 40,))
    yield "dtype", np.array([Call(os.system, (shell,)), 1], object)
    yield "dtype", np.array([(1, 2)], [("a", "i4"), ("b", "i4")])
    yield "dtype", np.array(["text"])
    yield "dtype", np.array(["2020-01-01"], "datetime64[D]")
    yield "recarray", np.zeros(1).view(np.recarray)
    yield "data", dtype
    yield "data", np.ndarray
    yield "content", Call(array, (np.ndarray, (0,), b"b"))
    yield "array", Call(array, (Image.Image, (0,), b"b"))
    yield "size", Call(array, (np.ndarray, (0,), b"b"), (1, (1 << 40,), dtype, False, b"\0" * 8))
    yield "size", Call(array, (np.ndarray, (0,), b"b"), (1, (2,), dtype, False, b"\0" * 8))
    yield "shape", Call(array, (np.ndarray, (0,), b"b"), (1, (-1,), dtype, False, b"\0" * 8))
    yield "shape", Call(array, (np.ndarray, (0,), b"b"), (1, ("1",), dtype, False, b"\0" * 8))
    yield "size", Call(array, (np.ndarray, (0,), b"b"), (1, (1,), dtype, False, [1]))
    yield "dtype", Call(array, (np.ndarray, (0,), b"b"), (1, (1,), "O", False, b"\0" * 8))
    yield "size", Call(np._core.multiarray.scalar, (dtype, b"\0"))
    yield "dtype", Call(np._core.multiarray.scalar, (np.dtype(object), b"\0" * 8))
    yield "torch did not write", Call(torch.storage._load_from_bytes, (b"PK\3\4",))
    yield "torch did not write", Call(torch.storage._load_from_bytes, (pickle.dumps(Call(os.system, (shell,))),))
    for hidden in (Call(os.system, (shell,)), Call(bytearray, (1 << 30,)), Call(torch.Tensor, ())):
        rest = b"".join(pickle.dumps(part, 2) for part in (1001, {"little_endian": True}, hidden, []))
        yield "more than its values", Call(torch.storage._load_from_bytes, (pickles._TORCH_LEGACY + rest,))
    unknown = b"".join(pickle.dumps(part, 2) for part in (1, {}, 2, []))
    yield "torch cannot read", Call(torch.storage._load_from_bytes, (pickles._TORCH_LEGACY + unknown,))
    yield "size", torch.rand(1).expand(1000)
    storage = torch.rand(4).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    rebuild = torch._utils._rebuild_tensor_v2
    yield "pickle", Call(rebuild, (typed, 3, (4,), (1,), False, {}))
    yield "shape", Call(rebuild, (typed, 0, (2,), (-1,), False, {}))
    yield "values", Call(rebuild, (typed, 0, (2,), (1,), False, {"hook": 1}))
    yield "values", Call(rebuild, (3, 0, (2,), (1,), False, {}))
    yield "data", typed
    yield "mode", picture().convert("P")
    yield "mode", picture().convert("RGBA")
    yield "64 bits", 1 << 65
    yield "key", {(1, 2): 3}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whatever_is_not_data_is_refused_and_never_run(tmp_path, protocol):
    sentinel = tmp_path / "sentinel"
    for reason, value in attacks(sentinel):
        try:
            content = pickle.dumps([value], protocol)
        except pickle.PicklingError:
            continue
        message = refused(content, tmp_path)
        assert any(part in message for part in reason.split("|")), (reason, message)
    assert not sentinel.exists()
    pickle.loads(pickle.dumps(Call(os.system, (f"touch {sentinel}",)), protocol))
    assert sentinel.exists()  # so that its absence says something


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def blank(cls=b"cPIL.Image\nImage\n"):
    return cls + b")\x81"


def filled(*state):
    return pickle.dumps(list(state), 2)[2:-1] + b"b."


@pytest.mark.parametrize(
    ("reason", "content"),
    [
        ("os.system", b"cos\nsystem\n(S'id'\ntR."),
        ("builtins.eval", b"\x80\x04" + text(b"builtins") + text(b"eval") + b"\x93" + text(b"1") + b"\x85R."),
        ("PIL.Image.Image.__init__", b"\x80\x04" + text(b"PIL.Image") + text(b"Image.__init__") + b"\x93."),
        ("PIL.Image.open.__globals__", b"\x80\x04" + text(b"PIL.Image") + text(b"open.__globals__") + b"\x93."),
        ("numpy.core.multiarray.", b"cnumpy.core.multiarray\n_reconstruct.__globals__\n."),
        ("PIL.PngImagePlugin.sys", b"cPIL.PngImagePlugin\nsys.modules.ImageFile\n."),
        ("not text", b"\x80\x04K\x01" + text(b"eval") + b"\x93."),
        ("\\x1b[31m", b"c\x1b[31mos\nsystem\n."),
        ("a" * 90, b"c" + b"a" * 100000 + b"\nsystem\n."),
        ("INST", b"(K\x01ios\nsystem\n."),
        ("OBJ", b"(cPIL.Image\nImage\no."),
        ("NEWOBJ_EX", b"cPIL.Image\nImage\n)}\x92."),
        ("EXT1", b"\x82\x01."),
        ("EXT2", b"\x83\x01\x00."),
        ("EXT4", b"\x84\x01\x00\x00\x00."),
        ("PERSID", b"Pid\n."),
        ("BINPERSID", b"K\x01Q."),
        ("NEXT_BUFFER", b"\x97."),
        ("EMPTY_SET", b"\x8f."),
        ("not a function", b"cnumpy\nndarray\n)R."),
        ("not a function", b"K\x01)R."),
        ("not an image", b"cnumpy\nndarray\n)\x81."),
        ("not an image", b"ccopyreg\n_reconstructor\n)\x81."),
        ("state of something", b"cPIL.Image\nImage\n}" + text(b"__setstate__") + b"K\x01sb."),
        ("state of something", b"cnumpy.core.multiarray\n_reconstruct\nN}" + text(b"__defaults__") + b")s\x86b."),
        ("state of something", b"]}b."),
        ("without content", blank() + b"."),
        ("malformed", blank() + b"}" + text(b"fp") + b"K\x01sb."),
        ("malformed", blank() + filled({}, "RGB", (1, 1))),
        ("mode 'F'", blank() + filled({}, "F", (1, 1), None, b"1234")),
        ("size", blank() + filled({}, "RGB", (1, 1), None, b"12")),
        ("size", blank() + filled({}, "RGB", (0, 1), None, b"")),
        ("shape", blank() + filled({}, "RGB", (-1, -1), None, b"123")),
        ("size", blank() + filled({}, "L", (1 << 20, 1 << 20), None, b"1")),
        ("size", blank() + filled({}, "L", (1, 1, 1), None, b"1")),
        ("list", b"K\x01K\x02a."),
        ("dict", b"K\x01K\x02K\x03s."),
        ("nor a number", b"}]K\x01s."),
        ("truncated", b"}(K\x01u."),
        ("truncated", b"(."),
        ("truncated", b"."),
        ("truncated", b""),
        ("truncated", b"h\x00."),
        ("truncated", b"K\x01\x85\x86."),
        ("truncated", b"\x80\x04\x8e" + b"\xff" * 8 + b"a."),
        ("truncated", b"\x80\x05\x96" + b"\xff" * 7 + b"\x7fa."),
        ("truncated", b"I" + b"9" * 10000 + b"\n."),
        ("truncated", b"PK\x03\x04 not a pickle"),
        ("truncated", b'{"setups": []}'),
    ],
)
def test_hand_written_programs_are_refused(tmp_path, reason, content):
    assert reason in refused(content, tmp_path)


def test_an_extension_code_is_refused_even_if_it_stands_for_data(tmp_path):
    copyreg.add_extension("PIL.Image", "Image", 240)
    try:
        content = pickle.dumps(picture(), 4)
    finally:
        copyreg.remove_extension("PIL.Image", "Image", 240)
    assert "EXT1" in refused(content, tmp_path)


def test_what_grows_or_nests_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "_MAX_ITEMS", 10_000)
    cycle = []
    cycle.append(cycle)
    doubled = []
    for _ in range(30):
        doubled = [doubled, doubled]
    for content in (pickle.dumps(cycle), b"]" * 5000 + b"a" * 4999 + b".", b"]" + b"\x85" * 5000 + b"."):
        assert "nests deeper" in refused(content, tmp_path)
    assert "10000 items" in refused(pickle.dumps(doubled), tmp_path)
    assert "opcodes" in refused(b"(" + b"N" * 10_000 + b"t.", tmp_path)
    # A dtype whose name is such a list must not be printed.
    assert "no name" in refused(pickle.dumps(Call(np.dtype, (doubled, False, True))), tmp_path)


def test_one_text_does_not_make_many_arrays(tmp_path):
    raw = bytes(100_000)
    call = Call(np._core.numeric._frombuffer, (raw, np.dtype("u1"), (100_000,), "C"))
    assert len(read(pickle.dumps([call] * 1000), tmp_path)) == 1000  # one call, whose result is shared
    calls = [Call(np._core.numeric._frombuffer, (raw, np.dtype("u1"), (100_000,), "C")) for _ in range(5)]
    assert "more arrays" in refused(pickle.dumps(calls), tmp_path)


def test_a_pickle_cut_anywhere_is_refused(tmp_path):
    target = (picture(size=(2, 2)), 3, torch.rand(3, 1, 1), [np.int64(1), np.arange(2)])
    for protocol in (0, 2, 5):
        content = pickle.dumps(target, protocol)
        for length in range(0, len(content), 7):
            refused(content[:length], tmp_path)


# Made once: torch numbers its storages anew every time.
UNDAMAGED = [
    pickle.dumps((picture(size=(2, 2)), 3, torch.rand(3, 1, 1), {"a": np.int64(1), "b": np.arange(2)}), protocol)
    for protocol in (0, 2, 4, 5)
]


@given(st.data())
def test_a_damaged_pickle_is_read_or_refused_but_never_crashes(tmp_path_factory, data):
    content = bytearray(data.draw(st.sampled_from(UNDAMAGED)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(content), tmp_path_factory.getbasetemp())
    except InputError as error:
        assert str(error).endswith("(--poisons)")


def test_files_that_are_missing_large_or_none_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="No such file"):
        read_pickle(tmp_path / "missing", "--poisons")
    with pytest.raises(InputError, match="not a file"):
        read_pickle(tmp_path, "--poisons")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a file"):
        read_pickle(tmp_path / "pipe", "--poisons")
    monkeypatch.setattr(pickles, "_MAX_BYTES", 10)
    assert "more than the 10" in refused(pickle.dumps("a" * 10), tmp_path)
