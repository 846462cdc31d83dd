"""What all voters of a certificate have in common: the trusted extractor, and what they start from."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poison_and_defend.certificate.ingredients import PRETRAINED
from poison_and_defend.certificate.plan import CertificatePlan
from poison_and_defend.certificate.secret import Randomness
from poison_and_defend.certificate.setting import Setting
from poison_and_defend.certificate.voters import Voters, member_seed, noise_seed
from poison_and_defend.core.hashing import hash_array, hash_state
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.datamodules import Split
from poison_and_defend.lightning_modules.classifier import fresh_head, load_weights
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.frozen import frozen_form
from poison_and_defend.lightning_modules.networks.identity import network_identity
from poison_and_defend.sanitizing.engine import sanitize
from poison_and_defend.training.features import extract_features, frozen
from poison_and_defend.training.kept_models import ModelSpec, trained_models
from poison_and_defend.training.members import Fit, fit_members

# Noise of public images: draws that no voter has.
_PUBLIC_DRAW = 2**31
_MODEL_SEED = 2**40


@dataclass(frozen=True, eq=False)
class CertifyModels:
    """Trains or reads the common models of a plan, one setting at a time, with all ranks."""

    plan: CertificatePlan
    randomness: Randomness
    ranks: Ranks

    def voters(self, setting: Setting) -> tuple[Voters, dict[str, Any]]:
        """Voters of one setting, and all that their votes depend on."""
        plan, learner, split, tested = self.plan, self.plan.learner, self.plan.train, self.plan.tested
        seed, batch_size = self.randomness.seed, plan.speed.sanitize_batch_size
        defense = plan.defense(setting.sigma).with_seed(noise_seed(seed))
        if defense.denoiser is not None:
            defense.denoiser.to(self.ranks.device)
        extractor = self.extractor(setting.sigma) if learner.learner == "head" else None

        def features(images: Tensor) -> Tensor:
            # Batches as they come from the denoiser, so that none is padded.
            return extract_features(extractor, images, self.ranks.device, batch_size)  # type: ignore[arg-type]

        start, test_defense = self._start(extractor, setting.sigma), plan.test_defense(seed)
        voters = Voters(
            split=split,
            sampling=setting.sampling,
            defense=defense,
            build=self._builder(extractor, start),
            recipe=learner.recipe,
            seed=seed,
            tested=tested.images if extractor is None or test_defense is not None else features(tested.images),
            features=None if extractor is None else features,
            batch_size=batch_size,
            threads=plan.speed.threads,
            watched=self._watched(None if extractor is None else features),
            test_defense=test_defense,
        )
        # Without noise votes are those of before there was any, and are found again.
        noised = {} if test_defense is None else {"tested": test_defense.settings_for(plan.data.image_shape)}
        settings = {
            "train": hash_array(split.images.numpy()),
            "labels": hash_array(split.labels.numpy()),
            "test": hash_array(tested.images.numpy()),
            "normalization": [list(plan.data.mean), list(plan.data.std)],
            "sampling": repr(setting.sampling),
            **defense.settings_for(plan.data.image_shape),
            **self._common_settings(),
            **noised,
            "extractor": None if extractor is None else hash_state(extractor.body.state_dict()),
            "start": None if start is None else hash_state(start.state_dict()),
        }
        # Without this the order of keys would be part of what is compared.
        return voters, dict(sorted(settings.items()))

    def _common_settings(self) -> dict[str, Any]:
        """What the votes of all settings depend on, but for data and weights, as JSON can hold it."""
        plan = self.plan
        return {
            "learner": plan.learner.learner,
            "backbone": network_identity(plan.learner.network),
            "recipe": plan.learner.recipe.settings(),
            "warm_start": plan.trust.warm_start,
            "stop_on": plan.trust.stop_on,
            "seed": plan.seed,
            **self.randomness.told,
            **vars(plan.speed),
        }

    def _watched(self, features: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor] | None:
        stop_on = self.plan.trust.stop_on
        if stop_on == "none":
            return None
        split = self.plan.data.split("public" if stop_on == "trusted" else "train")
        return split.images if features is None else features(split.images), split.labels

    def extractor(self, sigma: float) -> Classifier:
        """The frozen, trusted network: read, or trained on public images and their noised and denoised copies."""
        plan, data = self.plan, self.plan.data
        if plan.trust.features == PRETRAINED:
            channels, side, _ = data.image_shape
            own = build_network(plan.learner.network, in_channels=channels, num_classes=2, mean=data.mean, std=data.std)
            return frozen_form(own, channels, side, self.ranks.device)
        if plan.trust.features is not None:
            model = build_network(
                plan.learner.network,
                in_channels=data.image_shape[0],
                num_classes=data.num_classes,
                mean=data.mean,
                std=data.std,
            )
            load_weights(model, Path(plan.trust.features), option="--features")
            model = frozen(model, self.ranks.device)
        else:
            spec = self._spec(self._public(sigma), 0)
            model = trained_models([spec], plan.models_folder, self.ranks, "trusted features")[0]
        # Twice as fast on a CPU.
        return model.to(memory_format=torch.channels_last)

    def trusted_accuracy(self, setting: Setting) -> float | None:
        """Share of test images that the trusted model alone reads right: an attacker cannot change it at all."""
        plan = self.plan
        if plan.trust.features is not None or plan.learner.learner != "head":
            return None
        model = self.extractor(setting.sigma)
        features = extract_features(model, plan.tested.images, self.ranks.device)
        with torch.no_grad():
            predicted = model.head.to("cpu")(features).argmax(1)
        return float((predicted == plan.tested.labels).float().mean())

    def _public(self, sigma: float) -> Split:
        """Public images and their noised and denoised copies, which look like what voters train on."""
        plan, public = self.plan, self.plan.data.split("public")
        # Without noise, voters train on images as they are.
        draws = plan.learner.feature_draws if sigma else 0
        copies, rows = [public.images], torch.arange(len(public))
        for number in range(draws):
            defense = plan.defense(sigma, draw=_PUBLIC_DRAW + number)
            text = f"sanitize public images, copy {number + 1} of {draws}"
            with StoreProgress(text, enabled=self.ranks.rank == 0) as bar:
                options: dict[str, Any] = {"batch_size": plan.speed.sanitize_batch_size, "by_content": True, "progress": bar}
                copies.append(sanitize(public.images, rows, defense, plan.stores / "public", self.ranks, **options))
        return Split(torch.cat(copies), public.labels.repeat(1 + draws))

    def _spec(self, split: Split, number: int) -> ModelSpec:
        learner, data = self.plan.learner, self.plan.data
        seed = _MODEL_SEED + member_seed(self.plan.seed, number)
        return ModelSpec(learner.network, seed, learner.feature_recipe, split, data.num_classes, data, 0.0, 1)

    def _start(self, extractor: Classifier | None, sigma: float) -> nn.Module | None:
        """What every voter starts from, if not from weights of its own."""
        plan = self.plan
        if plan.trust.warm_start == "none":
            return None
        if plan.trust.warm_start == "trusted":
            if extractor is not None:
                return extractor.head.cpu()
            spec = self._spec(self._public(sigma), 0)
            return trained_models([spec], plan.models_folder, self.ranks, "warm start")[0].cpu()
        raw = plan.train
        if extractor is None:
            return trained_models([self._spec(raw, 1)], plan.models_folder, self.ranks, "warm start, raw")[0].cpu()
        features = extract_features(extractor, raw.images, self.ranks.device)
        everything = EnsembleData(features, raw.labels, torch.arange(len(raw))[None])
        seeds, build = [member_seed(self.randomness.seed, 1)], self._builder(extractor, None)
        # Every rank trains the same small head: nothing has to be sent.
        own = Ranks(device=self.ranks.device)
        states = fit_members(build, seeds, everything, plan.learner.recipe, own, Fit(per_block=1, threads=1))
        head = build(0)
        head.load_state_dict(states[0])
        return head

    def _builder(self, extractor: Classifier | None, start: nn.Module | None) -> Callable[[int], nn.Module]:
        data, network = self.plan.data, self.plan.learner.network

        def build(seed: int) -> nn.Module:
            if start is not None:
                return deepcopy(start).requires_grad_(True)
            if extractor is not None:
                return fresh_head(extractor.num_features, data.num_classes, seed)
            options: dict[str, Any] = {"num_classes": data.num_classes, "mean": data.mean, "std": data.std, "seed": seed}
            return build_network(network, in_channels=data.image_shape[0], **options)

        return build
