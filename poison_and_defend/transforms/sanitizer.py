"""The defence as a transform of torchvision: noise and denoise images of any size, wherever transforms go."""

import copy
from collections.abc import Sequence
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.noise_secret import NoiseSecret, draw_secret
from poison_and_defend.defenses.base import SECRET
from poison_and_defend.defenses.rewriters.base import Rewriter, quantize
from poison_and_defend.defenses.rewriters.diffusion import Diffusion
from poison_and_defend.defenses.rewriters.gaussian import GaussianRewriter
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.sanitizing.tiled import Group, TiledDefense
from poison_and_defend.transforms.image_forms import to_bytes

# Bounds memory without many half-empty batches at the seams between chunks.
_BATCHES_AT_ONCE = 8


def _is_plain(value: Any) -> bool:
    """A tensor without a meaning of its own: an image or, by v2's rule, whatever follows one."""
    return isinstance(value, Tensor) and not isinstance(value, tv_tensors.TVTensor)


def _is_image(value: Any) -> bool:
    return _is_plain(value) or isinstance(value, tv_tensors.Image | tv_tensors.Video | PIL.Image.Image)


class DiffusionSanitizer(v2.Transform):
    """Gaussian noise, then a diffusion model's estimate of the clean image; for batches, and inside ``v2.Compose``.

    Images larger or smaller than the model's are denoised in overlapping tiles
    (:class:`poison_and_defend.diffusion.tiles.TileLayout`). The
    noise is drawn once for the whole padded image, so that tiles see the same noise where they overlap.

    **Once, or every epoch.** As a transform of a training set it draws new noise every time an image is loaded, so that a
    training run sees each poison under as many draws as it has epochs. The defence of the paper sanitizes a set once and
    trains on the result: for that wrap the set in :class:`poison_and_defend.transforms.sanitized_dataset.SanitizedDataset`.

    In a v2 sample, images (and videos, frame by frame) are sanitized and labels, boxes and masks pass through; which
    plain tensor counts as the image is v2's rule. It is not differentiable. Put it before ``Normalize``. In DataLoader
    workers pass ``device="cpu"``. A grey image goes through a colour model as three equal channels with noise of their own,
    whose mean is returned: whoever attacks it sees the noise of sigma / sqrt(3).

    A rewriter of one's own takes the place of noise and denoiser: ``DiffusionSanitizer(MyRewriter())``. Where it has no
    denoiser, an image of any size and number of channels is given to it as it is.

    Args:
        denoiser: A name such as ``digits``, a diffusers folder, ``hf:OWNER/NAME`` of the Hub, or a model, which is put in
            evaluation mode; or a :class:`~poison_and_defend.defenses.rewriters.base.Rewriter`, which has sigma, steps, overlap,
            seed and draw itself.
        sigma: Standard deviation of the noise in [0, 1] units, or a fraction such as ``25/255``; None for 0.25.
        steps: Model evaluations per tile; None for one, or what a ready model was built with.
        overlap: Pixels that neighbouring tiles share, below the model's size; None for 8, or for a quarter of a smaller model.
        seed: Seed of the noise of `rows`, for reproduction: whoever knows it can craft poisons that survive. None for a secret
            one, drawn from the operating system now: this sanitizer alone then repeats its bytes.
        draw: Which independent realisation of the noise of `rows`; None for the first, 0.
        batch_size: Tiles per model evaluation.
        device: Where to compute. None for a GPU if there is one, or where a ready model lies. Results come back to
            where the images were.

    Raises:
        InputError: If a value is out of range or the denoiser cannot be read.
    """

    _transformed_types = (_is_image,)

    def __init__(
        self,
        denoiser: str | Denoiser | Rewriter,
        sigma: float | str | None = None,
        *,
        steps: int | None = None,
        overlap: int | None = None,
        seed: int | None = None,
        draw: int | None = None,
        batch_size: int = 64,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__()
        at_least("batch_size", batch_size, 1, "batch_size")
        if isinstance(denoiser, Rewriter):
            own = {"sigma": sigma, "steps": steps, "overlap": overlap, "seed": seed, "draw": draw}
            for name, value in own.items():
                if value is not None:
                    raise InputError(f"{name} is {value}, but it is for the rewriter {denoiser.name} to say ({name})")
            defense, place = denoiser, _place(denoiser.denoiser, device)
        else:
            model = _model(denoiser, steps, device)
            defense, place = Diffusion(sigma, model, seed=seed, draw=draw), model.device
        if isinstance(defense, GaussianRewriter):
            defense.note()
        self.secret = draw_secret() if defense.needs_secret else None
        defense = defense if self.secret is None else defense.with_seed(self.secret.seed)
        # It is no module: a training module that holds this transform neither trains nor saves the denoiser.
        self.tiled = TiledDefense(defense, batch_size=batch_size, overlap=overlap, device=place)
        tiles = self.tiled.batches is not None and defense.denoiser is not None
        self.size: tuple[int, int] | None = self.tiled.size if tiles else None
        """Height and width of the denoiser's images; None where there is none, and an image is rewritten as it is."""
        self.channels: int | None = defense.denoiser.channels if tiles and defense.denoiser is not None else None
        """Those of the denoiser's images; None where there is none."""
        self.sigma, self.overlap, self.batch_size = defense.sigma, self.tiled.overlap, batch_size

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.tiled.device

    def settings(self) -> dict[str, Any]:
        """All that the output depends on besides images and rows, as JSON can hold it; a secret seed is not told."""
        seed = {"seed": SECRET} if self.secret is not None else {}
        return self.tiled.defense.settings() | seed | {"overlap": self.overlap, "batch_size": self.batch_size}

    def with_secret(self, secret: NoiseSecret) -> "DiffusionSanitizer":
        """The same model with another secret seed, for processes that must agree on one."""
        other = copy.copy(self)
        other.secret = secret
        other.tiled = copy.copy(self.tiled)
        other.tiled.defense = self.tiled.defense.with_seed(secret.seed)
        return other

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse a sample without any image, which v2 would hand on unsanitized."""
        if not any(_is_image(value) for value in flat_inputs):
            kinds = ", ".join(sorted({type(value).__name__ for value in flat_inputs}))
            raise InputError(f"there is no image among {kinds}: a PIL image or a tensor is needed (images)")

    def forward(self, *inputs: Any, rows: Tensor | Sequence[int] | int | None = None) -> Any:
        """Sanitize.

        Args:
            inputs: A batch ``(N, C, H, W)``, an image ``(C, H, W)``, a PIL image, or any sample that v2 transforms take.
                Tensors are uint8 or float in [0, 1] and are handled as 8 bits.
            rows: Number of each image in the whole training set, in [0, 2**32), which keys its noise: the same rows give the
                same bytes, and images of the model's size those of
                :class:`~poison_and_defend.defenses.rewriters.diffusion.Diffusion`. Then the input is the images alone. None for
                fresh noise from torch's global generator, or fresh keys from it for a rewriter without a denoiser.

        Returns:
            The same type, dtype, shape and mode.

        Raises:
            InputError: If an image is of another kind, channels do not fit, or the model's output is not finite.
        """
        if rows is None:
            return super().forward(*inputs)
        if len(inputs) != 1 or not _is_image(inputs[0]):
            raise InputError("rows go with one batch of images or one image, not with a sample of several members (rows)")
        return self.transform(inputs[0], {"rows": rows})

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Sanitize one member of a sample; see :meth:`forward`."""
        pixels, form = to_bytes(inpt)
        batch = pixels if pixels.ndim == 4 else pixels[None]
        rows = params.get("rows")
        found = self._sanitize(batch, None if rows is None else _checked(rows, len(batch)))
        return form.restore(found.reshape(pixels.shape))

    def _rewrite(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """By a rewriter without a denoiser: images as they are, a batch at a time."""
        # Equal keys would give all images the same noise.
        keys = torch.randint(2**32, (len(images),)) if rows is None else rows
        found = torch.empty_like(images)
        for start in range(0, len(images), self.batch_size):
            own = slice(start, start + self.batch_size)
            found[own] = self.tiled([Group(images[own], keys[own])])[0].images
        return found

    @torch.no_grad()
    def _sanitize(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """Uint8 ``(N, C, H, W)`` to the same."""
        if self.channels is None:
            return self._rewrite(images, rows)
        grey = images.shape[1] == 1 and self.channels == 3
        if images.shape[1] != self.channels and not grey:
            raise InputError(
                f"images have {images.shape[1]} channels and the denoiser takes {self.channels}: convert them first (images)"
            )
        layout = self.tiled.layout(images)
        chunk = max(1, _BATCHES_AT_ONCE * self.batch_size // layout.tiles)
        found = torch.empty_like(images)
        for start in range(0, len(images), chunk):
            part = images[start : start + chunk].expand(-1, self.channels, -1, -1)
            group = Group(part, None if rows is None else rows[start : start + chunk])
            clean, sound = self.tiled([group])[0]
            if not sound.all():
                raise InputError("the denoiser's output holds values that are not finite: another one is needed (--denoiser)")
            # Three channels of a grey image are three estimates of the same value.
            found[start : start + chunk] = quantize(clean.float().mean(1, keepdim=True) / 255) if grey else clean
        return found


def _model(denoiser: str | Denoiser, steps: int | None, device: str | torch.device | None) -> Denoiser:
    """A denoiser by its name or as it is, in evaluation mode and where it is to compute."""
    if isinstance(denoiser, str):
        model = load_denoiser(denoiser, steps=1 if steps is None else steps)
        return model.to(_place(None, device)).eval()
    if steps not in (None, denoiser.steps):
        raise InputError(f"steps is {steps}, but the denoiser was built with {denoiser.steps} (steps)")
    return denoiser.to(_place(denoiser, device)).eval()


def _place(model: Denoiser | None, device: str | torch.device | None) -> torch.device:
    """Where to compute: as asked for, else where the model lies, else on a GPU if there is one."""
    if device is not None:
        return torch.device(device)
    return model.device if model is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _checked(rows: Tensor | Sequence[int] | int, count: int) -> Tensor:
    numbers = torch.as_tensor(rows).reshape(-1)
    if numbers.dtype.is_floating_point or numbers.dtype == torch.bool:
        raise InputError(f"rows are {numbers.dtype}: they must be integers (rows)")
    if len(numbers) != count:
        raise InputError(f"there are {len(numbers)} rows for {count} images (rows)")
    if count and not 0 <= int(numbers.min()) <= int(numbers.max()) < 2**32:
        raise InputError(f"rows are {int(numbers.min())} to {int(numbers.max())}: they must lie in 0 to 2**32 - 1 (rows)")
    return numbers.long()
