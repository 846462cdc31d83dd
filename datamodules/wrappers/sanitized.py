"""A data set whose whole training split went through a defence before anything is trained on it."""

from pathlib import Path

from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.datamodules.base import ArrayDataModule, Split, SplitName
from poison_and_defend.datamodules.wrappers.base import WrapperDataModule
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.defenses.rewriters.named import find_rewriter
from poison_and_defend.sanitizing.engine import sanitize


class DiffusionSanitizeDataModule(WrapperDataModule):
    """Noises and denoises the full training set of another datamodule, poisoned or not: in real life nobody knows.

    When a fit starts and the store is not complete, all ranks of that launch fill it first, then train on it. A run that
    is killed and started again continues. The bytes do not depend on the number of ranks.

    Args:
        source: The data set to sanitize.
        store: Folder of the sanitized store.
        defense: What is done to each image: ``diffusion``, ``noise_only``, ``denoise_only``, ``jpeg``, a rewriter of your own
            by its class path, or ``none``.
        denoiser: A name (``digits``, ``mnist``, ``cifar10``), a diffusers folder, or ``hf:OWNER/NAME`` of the Hugging Face Hub.
        sigma: Standard deviation of the noise in [0, 1] units, or a fraction such as ``25/255``.
        denoise_steps: Model evaluations per image; 1 is one-shot.
        noise_seed: Seed of the noise, for reproduction: whoever knows it can craft poisons that survive. By default it is a
            secret, drawn from the operating system and kept in a private file beside the store.
        draw: Which independent realisation of the noise.
        jpeg_quality: For ``jpeg``, 1 to 95.
        sanitize_batch_size: Rows per model evaluation.
        batch_size: Rows per training batch, over all ranks; None keeps the source's.
    """

    def __init__(
        self,
        source: ArrayDataModule,
        store: str,
        defense: Rewriter | str = "diffusion",
        denoiser: str = "digits",
        sigma: float | str = 0.25,
        denoise_steps: int = 1,
        noise_seed: int | None = None,
        draw: int = 0,
        jpeg_quality: int = 75,
        sanitize_batch_size: int = 64,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(source, batch_size)
        self.defense: Rewriter | None = None
        """What rewrites the training images, None for nothing."""
        if defense != "none":
            common = {"sigma": sigma, "denoiser": denoiser, "steps": denoise_steps, "seed": noise_seed, "draw": draw}
            self.defense = find_rewriter(defense, **common, quality=jpeg_quality)
            self.defense.check(source.image_shape, source.num_classes)
        self.store = Path(store)
        self.sanitize_batch_size = sanitize_batch_size
        self._joined: Ranks | None = None

    def join(self, ranks: Ranks) -> None:
        """Share the work among these ranks where there is no Trainer to ask."""
        self._joined = ranks

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`; the training split is sanitized by all ranks of the launch, or read."""
        split = self.source.split(name)
        if name != "train" or self.defense is None:
            return split
        ranks = self._joined or (Ranks.of(self.trainer) if self.trainer else Ranks())
        with StoreProgress(f"sanitize {self.name} ({self.defense.name})", enabled=ranks.rank == 0) as progress:
            images = sanitize(
                split.images,
                self.row_numbers(),
                self.defense,
                self.store,
                ranks,
                batch_size=self.sanitize_batch_size,
                progress=progress,
            )
        return Split(images, split.labels)
