import numpy as np
import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.images.names import Names, write_names
from poison_and_defend.storage.targets.folder_target import output_names


@pytest.mark.parametrize("names", [[], ["a"], ["a/ü.jpg", "a/new\nline.png", "b/" + "x" * 300]])
def test_names_are_read_back_one_by_one_and_in_slices(tmp_path, names: list[str]) -> None:
    assert write_names(tmp_path, "files", iter(names)) == len(names)
    found = Names(tmp_path, "files")
    assert len(found) == len(names) and found[0:10] == names
    assert [found[row] for row in range(len(names))] == names


@pytest.mark.parametrize(
    ("files", "outputs"),
    [
        (["a/1.jpg", "a/2.JPEG", "b/c/1.webp"], ["a/1.png", "a/2.png", "b/c/1.png"]),
        (["1.jpg", "10.jpg", "2.png"], ["1.png", "10.png", "2.png"]),
        # Two files of one name; the other class keeps its short names.
        (["a/1.jpeg", "a/1.jpg", "a/2.jpg", "b/1.jpg"], ["a/1.jpeg.png", "a/1.jpg.png", "a/2.jpg.png", "b/1.png"]),
        # Replaced, these two would change places.
        (["a/x.jpg", "a/x.jpg-2.jpg"], ["a/x.png", "a/x.jpg-2.png"]),
        (["a/dots.in.name.jpg"], ["a/dots.in.name.png"]),
    ],
)
def test_outputs_are_named_after_inputs_without_meeting(files: list[str], outputs: list[str]) -> None:
    found = list(output_names(files, "png"))
    assert len(set(found)) == len(files)
    if files[0] != "a/x.jpg":
        assert found == outputs


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "a//x", ".", "a/."])
def test_names_lead_nowhere_else(tmp_path, name: str) -> None:
    write_names(tmp_path, "files", ["a", name])
    found = Names(tmp_path, "files")
    assert found[0] == "a"
    with pytest.raises(InputError, match=r"files\.txt is damaged"):
        found[1]


@pytest.mark.parametrize("ends", [[], [1, 2], [0, 2, 1, 4], [0, 2, 5], [0, 4, 2**62], [0, -1, 4], [0.0, 4.0]])
def test_places_that_are_not_those_of_names_are_refused(tmp_path, ends: list) -> None:
    write_names(tmp_path, "files", ["a", "b"])
    np.save(tmp_path / "files.npy", np.array(ends, np.int64 if all(isinstance(end, int) for end in ends) else float))
    with pytest.raises(InputError, match=r"is damaged or no list of names"):
        Names(tmp_path, "files")


def test_a_list_that_is_gone_is_said_to_be(tmp_path) -> None:
    for name in ("files.npy", "files.txt"):
        write_names(tmp_path, "files", ["a"])
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError):
            Names(tmp_path, "files")
