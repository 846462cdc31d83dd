"""All that an untrained network depends on besides its seed, as JSON can hold it: what digests and records keep of it."""

import hashlib
from pathlib import Path
from typing import Any

from poison_and_defend.core.hashing import checksum_file
from poison_and_defend.core.reading.files import guarded
from poison_and_defend.lightning_modules.networks.sources import source_files
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.networks.weights import weights_file


def network_identity(network: Network, option: str = "--network") -> Any:
    """The name of a network of ours without options, as it always was; else its options, and what its files hold.

    Of a class or function of the user's, the file that defines it counts, and those of the classes that it inherits from: an
    edit of one gives other networks. What those files import does not count.

    Raises:
        InputError: If a file cannot be read.
    """
    if network.plain:
        return network.build
    known = {name: value for name, value in network.options().items() if value not in (None, {}, [])}
    # What it was before there was a choice has the digest that it had.
    if network.resizing == "bilinear":
        known.pop("interpolation", None)
    kind, joined, name = network.build.partition(":")
    if network.weights is not None:
        with guarded(network.weights, "no weights of this network", f"{option}.weights"):
            known["weights"] = checksum_file(weights_file(network.weights, f"{option}.weights"))
    if kind == "hf" and joined and Path(name).is_dir():
        with guarded(name, "no network of transformers", option):
            files = [path for path in sorted(Path(name).iterdir()) if path.suffix in (".json", ".safetensors")]
            known["files"] = {path.name: checksum_file(path) for path in files}
    if not joined and not network.ours:
        known["source"] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in source_files(network, option)]
    return known
