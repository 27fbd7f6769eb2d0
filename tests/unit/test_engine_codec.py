"""The VQ-GAN, its training, and diffusion in its latent space."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from phantomscope.config.diffusion import Network, Train
from phantomscope.config.diffusion import Process as Options
from phantomscope.config.latent import Latent
from phantomscope.config.load import make_config
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.checkpoint import save_checkpoint
from phantomscope.engine.codec import (
    Codec,
    GroupPatches,
    LatentPatches,
    LatentSampler,
    codec_spec,
    measure_latents,
)
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import build_network, make_network, network_spec
from phantomscope.engine.objective import Denoising
from phantomscope.engine.process import make_process
from phantomscope.engine.train import Trainer
from phantomscope.engine.vqgan import (
    Codebook,
    CodecSpec,
    make_vqgan,
)
from phantomscope.errors import PhantomscopeError

TINY = {"width": 8, "multipliers": [1, 2, 2], "blocks": 1, "embed": 3, "codes": 16}
GROUPS = [[0, 1], [2, 1]]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(channels=2, seed=0):
    network = make_vqgan(codec_spec(Latent(**TINY), channels), seed)
    # Fresh codes lie so near each other that all would decode alike.
    torch.nn.init.normal_(network.codebook.vectors, std=0.3, generator=rng())
    return network.eval()


def codec(**changes):
    mean, std = np.float32([0.1, -0.2, 0.3]), np.float32([0.5, 2, 1])
    meta = {"fingerprint": "a", "groups": GROUPS, "latent": TINY,
            "mean": mean.tolist(), "std": std.tolist()}  # fmt: skip
    return replace(Codec(tiny(), GROUPS, mean, std, meta), **changes)


def image(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_groups_are_drawn():
    class Source:
        def batch(self, step, size):
            levels = np.arange(5, dtype=np.float32)[None, :, None, None]
            return np.broadcast_to(levels, (size, 5, 4, 4))

    found = GroupPatches(Source(), [[0, 1], [2, 4]], 0).batch(3, 50)
    again = GroupPatches(Source(), [[0, 1], [2, 4]], 0).batch(3, 50)
    assert np.array_equal(found, again)
    kinds = {tuple(item[:, 0, 0]) for item in found}
    assert kinds == {(0, 1), (2, 4)}


class TestImages:
    def test_shapes(self):
        one = codec()
        for shape in ((32, 48), (30, 41), (5, 7)):
            latents = one.encode_image(image(3, *shape), 64, 0)
            assert latents.shape == (6, *(-(-side // 4) for side in shape))
            assert one.decode_image(latents, shape, 64, 0).shape == (3, *shape)

    def test_groups_lie_behind_each_other_and_the_first_gives_a_channel(self):
        one, x = codec(), torch.from_numpy(image(1, 3, 16, 16))
        latents = one.encode(x)
        spread = [torch.tensor(v)[:, None, None] for v in (one.mean, one.std)]
        for n, group in enumerate(GROUPS):
            own = one.network.encode(x[:, group])[0]
            found = latents[0, 3 * n : 3 * n + 3] * spread[1] + spread[0]
            torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)
        decoded = one.decode(latents)[0]
        first = one.network.decode(one.network.encode(x[:, [0, 1]]))[0]
        second = one.network.decode(one.network.encode(x[:, [2, 1]]))[0]
        torch.testing.assert_close(decoded[:2], first, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(decoded[2], second[0], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(first[1], second[1], atol=1e-3)

    def test_odd_sizes_are_reflected(self):
        """What is cut off again shows the image in a mirror."""
        one, odd = codec(), image(3, 14, 15)
        whole = np.pad(odd, ((0, 0), (0, 2), (0, 1)), mode="reflect")
        assert np.array_equal(
            one.encode_image(odd, 64, 0), one.encode_image(whole, 64, 0)
        )

    def test_tiles_lie_where_they_belong(self):
        """A codec that sees single pixels gives the same by tiles, without seams."""

        class Plain(torch.nn.Module):
            spec = CodecSpec(
                channels=2, width=1, multipliers=(1, 1, 1), blocks=1, embed=2, codes=2
            )
            codebook = Codebook(2, 2)

            def encode(self, x):
                return torch.nn.functional.avg_pool2d(x, 4)

            def decode(self, z):
                return torch.nn.functional.interpolate(z, scale_factor=4)

        zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
        plain = codec(network=Plain(), mean=zero, std=one)
        x = image(3, 61, 90)
        whole = plain.encode_image(x, 128, 0)
        for tile, overlap in ((32, 8), (24, 0), (40, 12)):
            tiled = plain.encode_image(x, tile, overlap)
            np.testing.assert_allclose(tiled, whole, atol=1e-6)
            back = plain.decode_image(whole, (61, 90), tile, overlap)
            np.testing.assert_allclose(
                back, plain.decode_image(whole, (61, 90), 128, 0), atol=1e-6
            )
        assert np.abs(whole).max() > 0.3

    def test_latents_are_normalised(self):
        fresh, images = codec(), [image(3, 32, 32, seed=n) for n in range(3)]
        found = measure_latents(fresh, images, 64)
        known = {n: np.float32(found[n]) for n in ("mean", "std")}
        latents = np.stack([codec(**known).encode_image(x, 64, 0) for x in images])
        each = latents.reshape(3, 2, 3, -1).swapaxes(1, 2).swapaxes(0, 1).reshape(3, -1)
        np.testing.assert_allclose(each.mean(axis=1), 0, atol=1e-4)
        np.testing.assert_allclose(each.std(axis=1), 1, atol=1e-4)
        assert found["range"] == pytest.approx([each.min(), each.max()], abs=1e-3)
        assert 1 / 16 <= found["codes_used"] <= 1

    def test_it_is_saved_and_loaded(self, tmp_path):
        one = codec()
        path = tmp_path / "codec.pt"
        save_checkpoint(path, {"network": dict(one.network.state_dict())}, one.meta)
        again, x = Codec.load(path), image(3, 20, 20)
        assert np.array_equal(again.encode_image(x, 64, 0), one.encode_image(x, 64, 0))
        for gone in ("mean", "groups", "latent", "fingerprint"):
            meta = {k: v for k, v in one.meta.items() if k != gone}
            save_checkpoint(path, {"network": dict(one.network.state_dict())}, meta)
            with pytest.raises(PhantomscopeError, match="no codec"):
                Codec.load(path)


class TestApart:
    def test_nothing_passes_from_one_part_to_another(self):
        config = Network(preset="small", norm="group")
        network = make_network(config, 0, channels=4, conditions=4, parts=2)
        assert network.spec.inputs == 8
        x = torch.randn(1, 8, 16, 16, generator=rng())
        t = torch.tensor([3])
        part = build_network(network_spec(config, channels=2, conditions=2), 0)
        part.load_state_dict(network.parts[1].state_dict())
        assert torch.equal(network(x, t)[:, 2:], part(x[:, [2, 3, 6, 7]], t))
        first, second = (p.stem.weight if hasattr(p, "stem") else next(p.parameters())
                         for p in network.parts)  # fmt: skip
        assert not torch.equal(first, second)

    def test_a_channel_of_noise_cannot_be_shared(self):
        config = Network(preset="small", noise_channel=True)
        with pytest.raises(PhantomscopeError, match="noise"):
            make_network(config, 0, channels=4, conditions=4, parts=2)


class TestLatentDiffusion:
    def model(self, tmp_path, one, fingerprint="a"):
        network = Network(preset="small", norm="channel")
        process = Options(kind="residual_shift", timesteps=4, eta_first=0.01)
        layout = {"channels": 6, "conditions": 6, "parts": 2}
        built = make_network(network, 0, timesteps=4, **layout)
        meta = {
            "network": network.model_dump(), "process": process.model_dump(),
            "value_range": [-3.0, 3.0], "fingerprint": "b", "codec": fingerprint,
            **layout,
        }  # fmt: skip
        path = tmp_path / "model.pt"
        save_checkpoint(path, {"network": dict(built.state_dict())}, meta)
        return DiffusionModel.load(path)

    def sampler(self, tmp_path, tile=64, overlap=0, **changes):
        one = codec()
        options = Synthesise(
            sampler="ddpm", spacing="uniform", steps="all", clip=False, tile=tile,
            overlap=overlap, precision="fp32", compile="never", device="cpu",
        )  # fmt: skip
        return LatentSampler(self.model(tmp_path, one, **changes), one, options, 0)

    def test_an_image_depends_on_its_name_and_seed_alone(self, tmp_path):
        condition = image(3, 45, 50)
        sampler = self.sampler(tmp_path)
        first = sampler.unconditional((45, 50), "a", condition)
        other = sampler.unconditional((45, 50), "b", condition)
        again = self.sampler(tmp_path).unconditional((45, 50), "a", condition)
        assert first.shape == (3, 45, 50)
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_tiles_are_sized_in_pixels_of_the_image(self, tmp_path):
        sampler = self.sampler(tmp_path, tile=64, overlap=16)
        assert sampler.sampler.config.tile == 16
        assert sampler.sampler.config.overlap == 4
        condition = image(3, 70, 100)
        assert sampler.unconditional((70, 100), "a", condition).shape == (3, 70, 100)

    def test_another_codec_is_refused(self, tmp_path):
        with pytest.raises(PhantomscopeError, match="another codec"):
            self.sampler(tmp_path, fingerprint="c")

    def test_patches_are_coded(self):
        class Source:
            def batch(self, step, size):
                return image(size, 6, 16, 16, seed=step)

        one = codec()
        found = LatentPatches(Source(), one).batch(3, 4)
        images = torch.from_numpy(image(4, 6, 16, 16, seed=3))
        assert found.shape == (4, 12, 4, 4)
        assert np.array_equal(found[:, :6], one.encode(images[:, :3]).numpy())
        alone = one.encode(images[2:3, 3:]).numpy()
        assert np.array_equal(found[2:3, 6:], alone)

    def test_it_learns(self, tmp_path):
        """The image is minus its condition, in latents as they are."""
        process = Options(kind="residual_shift", timesteps=4, eta_first=0.01)

        def batch(step, size):
            values = np.random.default_rng(step).uniform(-1, 1, (size, 2, 1, 1))
            whole = values * np.ones((1, 1, 16, 16))
            return np.concatenate([-whole, whole], axis=1).astype(np.float32)

        options = Train(
            steps=60, batch_size=8, patch=16, learning_rate=3e-3, warmup=5, ema=0.9,
            precision="fp32", device="cpu",
        )  # fmt: skip
        network = make_network(
            Network(preset="small", norm="none"), 0, channels=2, conditions=2,
            timesteps=4, parts=2,
        )  # fmt: skip
        made = make_process(process)
        trainer = Trainer(
            network, made, batch, options, seed=0, noise_channel=False, identity={},
            state=tmp_path / "state", objective=Denoising(made, conditions=2),
        )  # fmt: skip
        trainer.train()
        losses = list(trainer._recent)
        assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


STAINS = {"plates": {"stains": ["Mito", "DNA"]}, "boundaries": ["nuclei"]}


class TestOptions:
    def groups(self, *groups):
        return {"translate": {**STAINS, "latent": {"groups": list(groups)}}}

    def test_groups_are_numbers_of_channels(self):
        options = self.groups(["DNA", "nuclei boundaries"], ["Mito", "DNA"])
        assert make_config(options).translate.groups == [[1, 2], [0, 1]]
        every = make_config({"translate": STAINS}).translate.groups
        assert every == [[0, 1, 2]]

    @pytest.mark.parametrize(
        ("groups", "said"),
        [
            ([["Mito", "DNA"]], "nuclei boundaries"),
            ([["Mito", "DNA"], ["ER", "nuclei boundaries"]], "ER"),
            ([["Mito", "DNA"], ["nuclei boundaries"]], "same size"),
            ([["Mito", "Mito"], ["DNA", "nuclei boundaries"]], "twice"),
        ],
    )
    def test_impossible_groups_are_told(self, groups, said):
        with pytest.raises(PhantomscopeError, match=said):
            make_config(self.groups(*groups))

    def test_sides_fit_network_and_codec(self):
        """Latents of a quarter of 64 px are less than the stride of 64."""
        config = make_config({
            "network": {"preset": "resshift_small", "norm": "group"},
            "train": {"patch": 64}, "synthesise": {"tile": 256, "overlap": 0},
        })  # fmt: skip
        config.check_sides()
        with pytest.raises(PhantomscopeError, match="multiple of 256"):
            config.check_sides(config.translate.factor_of("cellresdm_latent"))
