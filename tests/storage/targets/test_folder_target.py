import numpy as np

from poison_and_defend.images.names import Names
from poison_and_defend.storage.listed import Listed
from poison_and_defend.storage.targets.folder_target import OUTPUTS, FolderTarget


def test_rows_of_an_array_get_names_whose_order_is_that_of_their_numbers(tmp_path) -> None:
    labels = np.arange(130) % 12
    listed = Listed(len(labels), {}, lambda: labels, lambda: (1, 8, 8))
    partial = tmp_path / "partial"
    partial.mkdir()
    FolderTarget(tmp_path / "out", "png", "--out").prepare(partial, listed)
    outputs = Names(partial, OUTPUTS)
    names = [outputs[row] for row in range(len(outputs))]
    # Whoever reads the folder sorts by text: the k-th class is label k, and within it rows stay in order.
    by_text = sorted(range(len(names)), key=lambda row: names[row])
    assert by_text == sorted(range(len(names)), key=lambda row: (labels[row], row))
    assert sorted({name.partition("/")[0] for name in names}) == [f"{label:02d}" for label in range(12)]
