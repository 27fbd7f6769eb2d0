"""A trained codec: from images of any size to normalised latents, and back.

A codec codes groups of channels, each by itself; their latents lie behind each other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phantomscope.config.latent import Latent
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.engine.fields import MemoryField
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.patches import PatchSource
from phantomscope.engine.precision import pick_device
from phantomscope.engine.sample import Sampler
from phantomscope.engine.sweep import Tiling
from phantomscope.engine.vqgan import VQGAN, CodecSpec, make_vqgan
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.images.tiles import Tile, reflect_index

Float = NDArray[np.float32]
SHAPE = ("width", "multipliers", "blocks", "embed", "codes")


def codec_spec(options: Latent, channels: int) -> CodecSpec:
    """Return the spec that a config asks for, with groups of so many channels."""
    return CodecSpec(channels=channels, **options.model_dump(include=set(SHAPE)))


@dataclass(frozen=True, eq=False)
class Codec:
    """A trained codec.

    Attributes
    ----------
    network : VQGAN
        In evaluation mode.
    groups : sequence of sequence of int
        Which channels of an image are coded together.
    mean, std : float arrays, shape (embed,)
        Of the latents; normalised ones have the mean 0 and the variance 1.
    meta : dict
        How it was trained.
    """

    network: VQGAN
    groups: Sequence[Sequence[int]]
    mean: Float
    std: Float
    meta: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> Codec:
        """Load what the stage `train_codec` wrote.

        Raises
        ------
        PhantomscopeError
            If it is no codec.
        """
        tensors, meta = load_checkpoint(path)
        try:
            groups = [[int(n) for n in group] for group in meta["groups"]]
            options = Latent(**{name: meta["latent"][name] for name in SHAPE})
            network = make_vqgan(codec_spec(options, len(groups[0])), 0)
            network.load_state_dict(tensors["network"])
            mean, std = (np.asarray(meta[n], np.float32) for n in ("mean", "std"))
            if not (mean.shape == std.shape == (options.embed,) and np.all(std > 0)):
                raise ValueError("it does not say how latents are spread")
            known = cls(network.eval(), groups, mean, std, meta)
            _ = known.fingerprint
        except (KeyError, RuntimeError, TypeError, ValueError, LookupError) as error:
            reason = " ".join(str(error).split())
            raise PhantomscopeError(
                f"this is no codec ({reason[:160]})",
                where=path,
                fix="delete it and run the same command again",
            ) from error
        return known

    @property
    def fingerprint(self) -> str:
        """Identity of what was trained."""
        return str(self.meta["fingerprint"])

    @property
    def factor(self) -> int:
        """How much smaller the sides of the latents are."""
        return self.network.spec.factor

    @property
    def channels(self) -> int:
        """Channels of the latents of all groups."""
        return len(self.groups) * self.network.spec.embed

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.network.codebook.vectors.device

    def to(self, wish: str) -> Codec:
        """Return a copy on a device: ``auto``, ``cpu`` or ``cuda``."""
        network = copy.deepcopy(self.network).to(pick_device(wish))
        return replace(self, network=network.requires_grad_(False))

    def _spread(self, values: Float) -> Tensor:
        return torch.from_numpy(values).to(self.device)[:, None, None]

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Code images whole.

        Parameters
        ----------
        images : Tensor, shape (N, C, Y, X)
            Network values; sides are multiples of `factor`.

        Returns
        -------
        Tensor, shape (N, channels, Y / factor, X / factor)
            Normalised latents, before the codebook. Each image and group is coded by
            itself, so that latents do not depend on the batch.
        """
        mean, std = self._spread(self.mean), self._spread(self.std)
        images = images.to(self.device)
        return torch.stack([
            torch.cat([
                (self.network.encode(image[None, list(group)])[0] - mean) / std
                for group in self.groups
            ])
            for image in images
        ])  # fmt: skip

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Make images (N, C, Y, X) of normalised latents (N, channels, y, x)."""
        mean, std = self._spread(self.mean), self._spread(self.std)
        embed = self.network.spec.embed
        images = []
        for item in latents.to(self.device):
            found: dict[int, Tensor] = {}
            for group, part in zip(self.groups, item.split(embed), strict=True):
                decoded = self.network.decode((part * std + mean)[None])[0]
                for channel, values in zip(group, decoded, strict=True):
                    # The first group that has a channel gives it, as in the paper.
                    found.setdefault(channel, values)
            images.append(torch.stack([found[n] for n in sorted(found)]))
        return torch.stack(images)

    def encode_image(self, image: Float, tile: int, overlap: int) -> Float:
        """Code an image of any size.

        Parameters
        ----------
        image : ndarray, shape (C, Y, X)
            Network values. Reflected to whole latent pixels.
        tile, overlap : int
            An image that is larger than a tile is coded in tiles that overlap on each
            side, in px of the image; latents are blended.

        Returns
        -------
        ndarray, shape (channels, ceil(Y / factor), ceil(X / factor))
        """
        small = tuple(-(-side // self.factor) for side in image.shape[1:])
        coarse, fine = self._tilings(small, tile, overlap)
        index = [
            reflect_index(0, large, side)
            for large, side in zip(fine.shape, image.shape[1:], strict=True)
        ]
        whole = image[np.ix_(np.arange(len(image)), *index)]
        return self._by_tiles(whole, fine, coarse, self.encode, self.channels)

    def decode_image(
        self, latents: Float, shape: Sequence[int], tile: int, overlap: int
    ) -> Float:
        """Make an image (C, Y, X) of a shape from its latents; see `encode_image`."""
        coarse, fine = self._tilings(latents.shape[1:], tile, overlap)
        count = 1 + max(max(group) for group in self.groups)
        image = self._by_tiles(latents, coarse, fine, self.decode, count)
        return image[:, : shape[0], : shape[1]]

    def _tilings(
        self, small: Sequence[int], tile: int, overlap: int
    ) -> tuple[Tiling, Tiling]:
        """Cut latents and their image alike: the same tiles, in either's pixels."""
        if self.factor * max(small) <= tile:
            overlap = 0
        found = []
        for scale in (1, self.factor):
            side = scale * (tile // self.factor)
            border = scale * (overlap // self.factor)
            found.append(Tiling.of(
                tuple(scale * n for n in small), (side, side), (border, border),
                scale, "cosine", self.device,
            ))  # fmt: skip
        return found[0], found[1]

    def _by_tiles(
        self, values: Float, cut: Tiling, blend: Tiling,
        work: Callable[[Tensor], Tensor], channels: int,
    ) -> Float:  # fmt: skip
        source = MemoryField(len(values), cut.shape, self.device)
        source.write(0, torch.from_numpy(np.ascontiguousarray(values, np.float32)))
        target = MemoryField(channels, blend.shape, self.device)
        slabs = iter(cut.slabs)

        def tiles(_: list[Tile]) -> Iterator[Tensor]:
            slab = next(slabs)
            part = cut.cut(source, slab)
            for one in slab:
                yield work(part(one)[None])[0]

        for _, row, rows, _ in blend.sweep(tiles, channels):
            target.write(row, rows)
        found: Float = target.values.cpu().numpy()
        return found


class LatentPatches:
    """Training patches in latent space: those of the images, coded.

    Parameters
    ----------
    patches : PatchSource
        Of images: what is to be predicted, then as many channels of the condition.
    codec : Codec
        On the device where it shall work.
    """

    def __init__(self, patches: PatchSource, codec: Codec) -> None:
        self.patches, self.codec = patches, codec

    def batch(self, step: int, size: int) -> Float:
        """Return the patches of one optimiser step, shape (size, 2 channels, y, x)."""
        images = torch.from_numpy(self.patches.batch(step, size))
        coded = [self.codec.encode(half) for half in images.chunk(2, dim=1)]
        found: Float = torch.cat(coded, dim=1).cpu().numpy()
        return found


class GroupPatches:
    """Training patches of a codec: of each image one of the groups of its channels.

    Parameters
    ----------
    patches : PatchSource
        Of images with all channels.
    groups : sequence of sequence of int
        Which channels are coded together.
    seed : int
        Of the choice.
    """

    def __init__(
        self, patches: PatchSource, groups: Sequence[Sequence[int]], seed: int
    ) -> None:
        self.patches, self.groups, self.seed = patches, groups, seed

    def batch(self, step: int, size: int) -> Float:
        """Return the patches of one optimiser step, shape (size, channels, Y, X)."""
        rng = generator(self.seed, "groups", step)
        chosen = rng.integers(len(self.groups), size=size)
        images = self.patches.batch(step, size)
        parts = zip(images, chosen, strict=True)
        return np.stack([image[list(self.groups[n])] for image, n in parts])


def measure_latents(codec: Codec, images: Iterable[Float], tile: int) -> dict[str, Any]:
    """Measure how the latents of images are spread.

    Parameters
    ----------
    codec : Codec
        Whose own normalisation is undone.
    images : iterable of ndarray, shape (C, Y, X)
        Network values.
    tile : int
        See `Codec.encode_image`.

    Returns
    -------
    dict
        ``mean`` and ``std`` of each channel; ``range``, lowest and highest normalised
        value; ``codes_used``, the share of the codebook that is the nearest of any.
    """
    plain = replace(codec, mean=0 * codec.mean, std=codec.std**0)
    embed = codec.network.spec.embed
    used = torch.zeros(codec.network.spec.codes, dtype=torch.bool)
    total, squares, count = np.zeros(embed), np.zeros(embed), 0
    ends = np.full((2, embed), np.inf)  # lowest, and minus the highest
    for image in images:
        latents = plain.encode_image(image, tile, 0)
        groups = latents.reshape(-1, embed, *latents.shape[1:])
        near = codec.network.codebook.nearest(torch.from_numpy(groups).to(codec.device))
        used[near.flatten().cpu()] = True
        each = groups.swapaxes(0, 1).reshape(embed, -1).astype(float)
        total, squares = total + each.sum(axis=1), squares + (each**2).sum(axis=1)
        ends = np.minimum(ends, [each.min(axis=1), -each.max(axis=1)])
        count += each.shape[1]
    mean = total / count
    # A channel that says nothing keeps its scale.
    spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
    std = np.where(spread > 1e-6, spread, 1.0)
    low, high = (ends[0] - mean) / std, (-ends[1] - mean) / std
    return {
        "mean": mean.tolist(), "std": std.tolist(),
        "range": [float(low.min()), float(high.max())],
        "codes_used": float(used.float().mean()),
    }  # fmt: skip


class LatentSampler:
    """Codes conditions, goes the way back in latent space, and decodes.

    Parameters
    ----------
    model : DiffusionModel
        Trained on latents of the codec.
    codec : Codec
        The codec.
    config : Synthesise
        Tiles are sized in px of the images.
    seed, pixels : int
        As of `Sampler`.

    Raises
    ------
    PhantomscopeError
        If the model was trained with another codec.
    """

    def __init__(
        self, model: DiffusionModel, codec: Codec, config: Synthesise, seed: int,
        pixels: int = 0,
    ) -> None:  # fmt: skip
        if model.meta.get("codec") != codec.fingerprint:
            raise PhantomscopeError(
                "this model was trained with another codec",
                where="--codec",
                fix="give the codec beside which it was trained, or train it again",
            )
        self.model, self.tile, self.overlap = model, config.tile, config.overlap
        own = {n: getattr(config, n) // codec.factor for n in ("tile", "overlap")}
        self.sampler = Sampler(
            model, config.model_copy(update=own), seed, pixels // codec.factor**2
        )
        self.codec = codec.to(config.device)

    def unconditional(
        self, shape: Sequence[int], identifier: str, condition: Float
    ) -> Float:
        """Predict; see `Sampler.unconditional`."""
        seen = self.codec.encode_image(condition, self.tile, self.overlap)
        found = self.sampler.unconditional(seen.shape[1:], identifier, seen)
        found = found.reshape(seen.shape)
        return self.codec.decode_image(found, shape, self.tile, self.overlap)
