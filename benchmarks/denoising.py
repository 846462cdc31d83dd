"""What denoisers leave of photographs: their pixels, and how well a head over a pretrained network's features learns from them.

Test images are as they are, as in the defence. Of several draws each is a training row of its own.

    python benchmarks/denoising.py --root DATA --denoisers cifar10 photos-32 --out docs/records/denoising.json
    python benchmarks/denoising.py --tiny FOLDER --counts 500 --denoisers photos-32 photos-64 --out FILE
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.core.files import write_json
from poison_and_defend.datamodules import ArraysDataModule, TinyImageNetDataModule
from poison_and_defend.datamodules.base import ArrayDataModule
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.diffusion.row_noise import row_noise
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.frozen import frozen_form
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.reports.provenance import provenance

_DECAY = 0.02
_BATCH = {"cpu": 32, "cuda": 512}


@dataclass(frozen=True, eq=False)
class Bench:
    """Images, labels and the network through which a head sees them."""

    network: Classifier
    train: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor
    test_features: Tensor
    device: torch.device

    @classmethod
    def of(cls, data: ArrayDataModule, name: str, count: int, device: torch.device) -> "Bench":
        """The first ``count`` training images, and all test images."""
        train, test = data.split("train"), data.split("test")
        network = frozen_form(build_network(Network(name), in_channels=3, num_classes=2), 3, train.images.shape[-1], device)
        images = test.images.float() / 255
        features = _in_batches(network.features, images, device)
        return cls(network, train.images[:count].float() / 255, train.labels[:count], images, test.labels, features, device)

    def accuracies(self, versions: Sequence[Tensor], counts: Sequence[int]) -> dict[str, float]:
        """Percentage of test images that heads read, each trained on the first so many rows of every version."""
        features = [_in_batches(self.network.features, images, self.device) for images in versions]
        found = {}
        for count in counts:
            train, labels = torch.cat([one[:count] for one in features]), self.labels[:count].repeat(len(versions))
            found[str(count)] = head_accuracy(train, labels, self.test_features, self.test_labels, self.device)
        return found

    def measure(self, denoiser: Denoiser, sigma: float, counts: Sequence[int], draws: int) -> dict[str, Any]:
        """Peak signal-to-noise ratio of 2,000 test images in dB, and the accuracies for one draw and for all."""
        denoiser = denoiser.to(self.device).to(memory_format=torch.channels_last).eval()
        images, test = self.train[: max(counts)], self.test[:2000]
        error = (self._denoised(denoiser, test, sigma, draws) - test).square().mean((1, 2, 3))
        ratio = (-10 * error.log10()).mean().item()
        versions = [self._denoised(denoiser, images, sigma, draw) for draw in range(draws)]
        found: dict[str, Any] = {"psnr": round(ratio, 2), "accuracy": self.accuracies(versions[:1], counts)}
        return found if draws == 1 else found | {f"accuracy, {draws} draws": self.accuracies(versions, counts)}

    def _denoised(self, denoiser: Denoiser, images: Tensor, sigma: float, draw: int) -> Tensor:
        noise = row_noise(torch.arange(len(images)), tuple(images.shape[1:]), seed=0, draw=draw)
        return _in_batches(lambda noisy: denoiser(noisy, sigma), images + sigma * noise, self.device)


@torch.no_grad()
def _in_batches(function: Any, images: Tensor, device: torch.device) -> Tensor:
    parts = []
    for batch in images.split(_BATCH[device.type]):
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(function(batch.to(device)).float().cpu())
    return torch.cat(parts)


def head_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, device: torch.device) -> float:
    """Percentage right of a multinomial logistic regression on standardized features, its weights' decay fixed."""
    mean, deviation = train.mean(0), train.std(0).clamp_min(1e-6)
    inputs, wanted = ((train - mean) / deviation).to(device), labels.to(device)
    head = nn.Linear(inputs.shape[1], int(test_labels.max()) + 1).to(device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=150, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(head(inputs), wanted) + _DECAY / 2 * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        answers = head(((test - mean) / deviation).to(device)).argmax(1).cpu()
    return round(100 * (answers == test_labels).float().mean().item(), 2)


def _data(root: Path | None, tiny: str | None) -> ArrayDataModule:
    if root is None:
        return TinyImageNetDataModule(str(tiny), only_validation=True)
    files = [str(root / "cifar10-jpeg" / f"{name}.npz") for name in ("train", "test")]
    return ArraysDataModule(files[0], files[1])


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--root", type=Path, help="folder with cifar10-jpeg/train.npz and test.npz")
    source.add_argument("--tiny", help="folder of Tiny ImageNet, whose validation part is halved to train and to test")
    parser.add_argument("--network", default="efficientnet_lite0", help="whose features heads see")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--denoisers", nargs="+", required=True)
    parser.add_argument("--sigmas", nargs="+", type=float, default=[0.05, 0.1, 0.25, 0.5])
    parser.add_argument("--counts", nargs="+", type=int, default=[500, 2500, 5000], help="training images of the heads")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench.of(_data(given.root, given.tiny), given.network, max(given.counts), device)
    rows: list[dict[str, Any]] = [{"denoiser": None, "sigma": 0, "accuracy": bench.accuracies([bench.train], given.counts)}]
    for name in given.denoisers:
        denoiser = load_denoiser(name)
        for sigma in given.sigmas:
            rows.append(
                {"denoiser": Path(name).name, "sigma": sigma, **bench.measure(denoiser, sigma, given.counts, given.draws)}
            )
            print(json.dumps(rows[-1]), flush=True)
    known = {"network": given.network, "counts": given.counts, "draws": given.draws}
    write_json(given.out, {**provenance(device.type, 1), **known, "rows": rows})


if __name__ == "__main__":
    main()
