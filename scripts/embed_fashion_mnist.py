"""Makes ``poison_and_defend/embedded/fashion_mnist.npz`` from Fashion-MNIST's public files.

python scripts/embed_fashion_mnist.py /usr/share/datasets/fashion-mnist

Rows are the first ones of the two files in their own order, so that nothing was chosen: 4,000 public and 2,000 training
images of the training file, 1,000 of the test file. The same zlib gives the same bytes; the values are what is checked.
"""

import argparse
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.files import write_bytes
from poison_and_defend.core.hashing import checksum_file
from poison_and_defend.images.embedded import EMBEDDED
from poison_and_defend.images.idx import read_idx

SOURCES = {
    "train-images-idx3-ubyte": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    "train-labels-idx1-ubyte": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    "t10k-images-idx3-ubyte": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    "t10k-labels-idx1-ubyte": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}
"""SHA-256 of the values in each file."""

PARTS = {"public": ("train", slice(0, 4000)), "train": ("train", slice(4000, 6000)), "test": ("t10k", slice(0, 1000))}


def arrays_of(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """What is embedded, from the four files.

    Raises:
        SystemExit: If a file is not Fashion-MNIST's.
    """
    whole = {}
    for name, expected in SOURCES.items():
        path = next(path for path in (folder / name, folder / f"{name}.gz") if path.exists())
        whole[name] = read_idx(path)
        found = hashlib.sha256(whole[name].tobytes()).hexdigest()
        if found != expected:
            sys.exit(f"{path} holds other values than Fashion-MNIST's: {found}")
    return {
        f"{part}_{kind}": whole[f"{file}-{kind}-{form}-ubyte"][rows]
        for part, (file, rows) in PARTS.items()
        for kind, form in (("images", "idx3"), ("labels", "idx1"))
    }


def packed(arrays: dict[str, NDArray[np.uint8]]) -> bytes:
    """An ``.npz`` without times in it, compressed as far as zlib goes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def main() -> None:
    """Write the file and print its checksum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the four files, compressed or not")
    target = EMBEDDED / "fashion_mnist.npz"
    write_bytes(target, packed(arrays_of(parser.parse_args().folder)))
    print(f"{target}: {target.stat().st_size:,} bytes, checksum {checksum_file(target)}")


if __name__ == "__main__":
    main()
