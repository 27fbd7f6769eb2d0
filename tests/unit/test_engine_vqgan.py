"""The VQ-GAN: its layers, its codebook, and how it is trained."""

import numpy as np
import pytest
import torch

from phantomscope.config.diffusion import Train
from phantomscope.config.latent import Latent
from phantomscope.engine.adversarial import of_generator
from phantomscope.engine.codec import codec_spec
from phantomscope.engine.process import Process
from phantomscope.engine.train import Trainer
from phantomscope.engine.vqgan import (
    Codebook,
    CodecSpec,
    Coding,
    make_reviewed,
    make_vqgan,
)

TINY = {"width": 8, "multipliers": [1, 2, 2], "blocks": 1, "embed": 3, "codes": 16}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(channels):
    return make_vqgan(codec_spec(Latent(**TINY), channels), 0)


class TestParameters:
    def published(self, channels, width, embed, codes):
        """Sum of the layers of the f4 layout of latent diffusion."""

        def conv(i, o, k=3):
            return k * k * i * o + o

        def block(i, o):
            skip = conv(i, o, 1) if i != o else 0
            return 2 * i + conv(i, o) + 2 * o + conv(o, o) + skip

        a, b, c = width, 2 * width, 4 * width
        middle = 2 * block(c, c) + 2 * c + 4 * conv(c, c, 1)
        encoder = (
            conv(channels, a) + 2 * block(a, a) + conv(a, a)
            + block(a, b) + block(b, b) + conv(b, b)
            + block(b, c) + block(c, c) + middle + 2 * c + conv(c, embed)
        )  # fmt: skip
        decoder = (
            conv(embed, c) + middle + 3 * block(c, c) + conv(c, c)
            + block(c, b) + 2 * block(b, b) + conv(b, b)
            + block(b, a) + 2 * block(a, a) + 2 * a + conv(a, channels)
        )  # fmt: skip
        return encoder + decoder + 2 * conv(embed, embed, 1) + codes * embed

    @pytest.mark.parametrize(("channels", "count"), [(3, 55_322_782), (5, 55_327_392)])
    def test_they_are_those_of_f4(self, channels, count):
        """Of three channels 55.32 million, and of the five of the released code."""
        assert self.published(channels, 128, 3, 8192) == count
        spec = CodecSpec(
            channels=channels, width=128, multipliers=(1, 2, 4), blocks=2, embed=3,
            codes=8192,
        )  # fmt: skip
        with torch.device("meta"):
            network = make_vqgan(spec, 0)
        assert sum(p.numel() for p in network.parameters()) == count


class TestCodebook:
    def test_the_nearest_code_is_taken(self):
        book = Codebook(4, 2)
        corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        book.vectors.data = corners
        z = torch.tensor([[0.9, 0.2], [0.1, 0.8], [0.4, 0.4], [3.0, 2.0]])
        z = z.t().reshape(1, 2, 2, 2)
        assert book.nearest(z).flatten().tolist() == [1, 2, 0, 3]
        found = book(z).flatten(2)[0].t()
        assert torch.equal(found, corners[[1, 2, 0, 3]])

    def test_chunks_make_no_difference(self, monkeypatch):
        book, z = Codebook(64, 3), torch.randn(2, 3, 9, 9, generator=rng())
        whole = book.nearest(z)
        monkeypatch.setattr("phantomscope.engine.vqgan.CHUNK", 7)
        assert torch.equal(book.nearest(z), whole)

    def test_gradients_pass_straight_through(self):
        """To the encoder as if there were no codebook; to codes by their distance."""
        network = tiny(2)
        torch.nn.init.normal_(network.codebook.vectors, std=0.3, generator=rng())
        x = torch.randn(1, 2, 16, 16, generator=rng())
        z = network.encode(x).detach().requires_grad_()
        network.encoder = torch.nn.Identity()
        decoded, _, codes = network(z)
        decoded.sum().backward()
        plain = codes.detach().requires_grad_()
        network.decoder(plain).sum().backward()
        # z + (codes - z) is rounded.
        torch.testing.assert_close(z.grad, plain.grad, atol=1e-3, rtol=1e-3)
        assert z.grad.abs().max() > 0.1
        assert network.codebook.vectors.grad is None

    def test_losses_are_those_of_vqvae(self):
        """L1 + (e - sg z)^2 + beta (sg e - z)^2, with gradients 2 (e - z) / n."""
        z = torch.full((1, 1, 2, 2), 3.0, requires_grad=True)
        codes = torch.full((1, 1, 2, 2), 1.0, requires_grad=True)
        decoded, target = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), -0.5)
        loss = Coding(commitment=0.25).loss((decoded, z, codes), None, target)
        assert loss.item() == 0.5 + 4 + 0.25 * 4
        loss.backward()
        assert codes.grad.unique().tolist() == [2 * (1 - 3) / 4]
        assert z.grad.unique().tolist() == [0.25 * 2 * (3 - 1) / 4]


class TestTraining:
    def trainer(self, state, steps=40, batch=None, adversarial=0.0, **changes):
        options = Train(
            steps=steps, batch_size=4, patch=32, learning_rate=3e-3, warmup=2,
            checkpoint_every=4, precision="fp32", device="cpu", ema=0.9,
            clip=0.0 if adversarial else 1.0, **changes,
        )  # fmt: skip
        network = tiny(1)

        def constant(step, size):
            levels = np.random.default_rng(step).uniform(-1, 1, (size, 1, 1, 1))
            return np.broadcast_to(levels, (size, 1, 32, 32)).astype(np.float32)

        return Trainer(
            make_reviewed(network, 0) if adversarial else network, Process.one_step(),
            batch or constant, options, seed=0, noise_channel=False, identity={},
            state=state, objective=Coding(adversarial=adversarial),
        )  # fmt: skip

    def test_constant_images_come_back(self, tmp_path):
        t = self.trainer(tmp_path / "state", steps=120)
        x = torch.linspace(-0.8, 0.8, 5)[:, None, None, None].expand(5, 1, 32, 32)
        before = (tiny(1)(x)[0] - x).abs().mean()
        t.train()
        t.run.network.load_state_dict(t.run.average)
        after = (t.run.network(x)[0] - x).abs().mean()
        assert after < 0.6 * before

    @pytest.mark.parametrize("adversarial", [0.0, 0.1])
    def test_killed_and_resumed_equals_undisturbed(self, tmp_path, adversarial):
        whole = self.trainer(tmp_path / "whole", 10, adversarial=adversarial)
        whole.train()
        source = whole.batch

        def failing(step, size):
            if step == 7:
                raise RuntimeError("power cut")
            return source(step, size)

        with pytest.raises(RuntimeError, match="power cut"):
            self.trainer(tmp_path / "cut", 10, failing, adversarial).train()
        again = self.trainer(tmp_path / "cut", 10, source, adversarial)
        assert again.resume() == 4
        again.train()
        for name, value in whole.run.average.items():
            assert torch.equal(value, again.run.average[name]), name

    def test_micro_batches_do_not_change_the_result_beyond_rounding(self, tmp_path):
        whole = self.trainer(tmp_path / "a", adversarial=0.1)
        parts = self.trainer(tmp_path / "b", adversarial=0.1, micro_batch=1)
        assert float(whole._step()) == pytest.approx(float(parts._step()), rel=1e-5)

    def test_codec_and_critic_learn_from_their_own_losses(self):
        network = make_reviewed(tiny(1), 0)
        x = torch.randn(2, 1, 32, 32, generator=rng())
        grads = []
        for weight in (0.0, 5.0):
            network.zero_grad()
            Coding(adversarial=weight).loss(network(x), None, x).backward()
            grads.append({n: p.grad.clone() for n, p in network.named_parameters()})
        for name in grads[0]:
            if name.startswith("critic."):
                assert torch.allclose(grads[0][name], grads[1][name], atol=1e-7)
        last = [name for name in grads[0] if name.startswith("generator.decoder.")][-2]
        assert not torch.allclose(grads[0][last], grads[1][last])
        of_codec = of_generator(network.state_dict())
        network.generator.load_state_dict(of_codec)
