"""Processes that end at a condition, adversarial training, and SPADE."""

import numpy as np
import pytest
import torch
from torch import nn

from phantomscope.config.diffusion import Network, Train
from phantomscope.config.diffusion import Process as Options
from phantomscope.config.load import make_config
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.adversarial import (
    Adversarial,
    Contest,
    Critic,
    make_contest,
    of_generator,
)
from phantomscope.engine.blocks import SpatialNorm, make_norm
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import (
    build_network,
    count_parameters,
    make_network,
    preset_spec,
)
from phantomscope.engine.objective import Denoising, loss_weights
from phantomscope.engine.process import make_process
from phantomscope.engine.sample import Sampler
from phantomscope.engine.train import Trainer
from phantomscope.errors import PhantomscopeError

SHIFT = Options(kind="residual_shift", timesteps=15)
ONE = Options(kind="one_step", timesteps=1)
ALL = {"sampler": "ddpm", "spacing": "uniform", "steps": "all", "tile": 64,
       "overlap": 0, "precision": "fp32", "compile": "never"}  # fmt: skip


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


class TestProcess:
    def test_published_schedule(self):
        """sqrt(eta) of T = 15 and of the released four steps, from the spec."""
        roots = np.sqrt(make_process(SHIFT).b)
        assert roots[1] == pytest.approx(0.02)
        assert roots[-1] == pytest.approx(0.99)
        released = Options(kind="residual_shift", timesteps=4, eta_first=0.01)
        np.testing.assert_allclose(
            np.sqrt(make_process(released).b[1:]), [0.1, 0.5201, 0.7614, 0.99],
            atol=1e-4,
        )  # fmt: skip

    def test_palette_schedule(self):
        options = Options(timesteps=2000, schedule="linear", betas=(1e-6, 0.01))
        beta = np.linspace(1e-6, 0.01, 2000)
        np.testing.assert_allclose(
            make_process(options).a[-1] ** 2, np.prod(1 - beta), rtol=1e-12
        )

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"kind": "one_step"}, "must be 1"),
            ({"timesteps": 5}, "at least 10"),
            ({"eta_first": 0.99}, "less than"),
            ({"betas": (0.1, 0.2)}, "linear"),
            ({"betas": (0.2, 0.1), "schedule": "linear"}, "not fall"),
        ],
    )
    def test_impossible_options_are_told(self, wrong, said):
        with pytest.raises(PhantomscopeError, match=said):
            make_config({"process": wrong})


class TestObjective:
    def test_a_shifting_process_ends_at_its_condition(self):
        """States are (1 - eta) x0 + eta c + kappa sqrt(eta) noise, scaled."""
        process = make_process(SHIFT)
        x0, c = torch.full((400, 1, 8, 8), 0.5), torch.full((400, 1, 8, 8), -0.5)
        objective = Denoising(process, conditions=1)
        x, t, target = objective.draw(torch.cat([x0, c], dim=1), rng())
        assert torch.equal(target, x0)
        assert torch.equal(x[:, 1:], c)
        eta = torch.as_tensor(process.b[t.numpy()])
        scale = torch.sqrt(1 + 4 * eta)
        mean, spread = x[:, 0].flatten(1).mean(1), x[:, 0].flatten(1).std(1)
        exact = (0.5 - eta) / scale
        noise = 2 * torch.sqrt(eta) / scale
        # Means of 64 normal values, of 400 items: five standard deviations.
        assert torch.all((mean - exact).abs() < 5 * noise / 8)
        np.testing.assert_allclose((spread / noise).mean(), 1, atol=0.02)

    def test_one_step_sees_the_condition_alone(self):
        values = torch.randn(3, 4, 8, 8, generator=rng())
        objective = Denoising(make_process(ONE), conditions=2)
        x, t, target = objective.draw(values, rng())
        assert torch.equal(x, values[:, [2, 3, 2, 3]])
        assert t.tolist() == [1, 1, 1]
        assert torch.equal(target, values[:, :2])

    def test_a_part_of_the_items_is_the_same_as_among_all(self):
        values = torch.randn(5, 4, 8, 8, generator=rng())
        objective = Denoising(make_process(SHIFT), conditions=2)
        whole = objective.draw(values, rng())
        part = objective.draw(values, rng(), slice(2, 4))
        assert all(torch.equal(a[2:4], b) for a, b in zip(whole, part, strict=True))

    def test_weights_of_the_bound(self):
        """alpha_t / (2 kappa^2 eta_t eta_{t-1}) (Yue et al. 2023, eq. 8)."""
        process = make_process(SHIFT)
        objective = Denoising(process, conditions=1, weighting="bound")
        t = torch.tensor([2, 9])
        output, target = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
        eta = process.b
        exact = [(eta[k] - eta[k - 1]) / (8 * eta[k] * eta[k - 1]) for k in (2, 9)]
        found = objective.loss(output, t, target)
        assert float(found) == pytest.approx(np.mean(exact), rel=1e-5)
        assert loss_weights(process, "bound")[2] == pytest.approx(exact[0])

    @pytest.mark.parametrize(("error", "exact"), [("mae", 2), ("smooth_l1", 1.5)])
    def test_errors(self, error, exact):
        objective = Denoising(make_process(ONE), error=error)
        output, target = torch.zeros(2, 1, 4, 4), torch.full((2, 1, 4, 4), 2.0)
        assert float(objective.loss(output, torch.tensor([1, 1]), target)) == exact


class TestContest:
    def contest(self):
        generator = build_network(preset_spec("small", channels=2, conditions=2), 0)
        return make_contest(generator, 0)

    def test_the_critic_is_the_published_one(self):
        """70 x 70 PatchGAN of 3 + 3 channels: 2,768,705 with batch norm, which has
        1792 weights, but no biases (896) in the layers before it."""
        assert count_parameters(Critic(2, 6)) == 2_768_705 - 1792 + 896

    def test_its_patches_have_70_pixels(self):
        critic = Critic(2, 1)
        critic = nn.Sequential(
            *(layer for layer in critic if not isinstance(layer, nn.InstanceNorm2d))
        )
        x = torch.zeros(1, 1, 256, 256, requires_grad=True)
        critic(x)[0, 0, 15, 15].backward()
        seen = x.grad[0, 0].abs().sum(0).nonzero()
        assert int(seen.max() - seen.min()) + 1 == 70

    def losses(self, contest, weight):
        objective = Adversarial(make_process(ONE), conditions=2, weight=weight)
        values = torch.randn(2, 4, 32, 32, generator=rng())
        x, t, target = objective.draw(values, rng())
        contest.zero_grad()
        objective.loss(contest(x, t), t, target).backward()
        return {
            name: p.grad.clone()
            for name, p in contest.named_parameters()
            if p.grad is not None
        }

    def test_each_learns_from_its_own_loss(self):
        contest = self.contest()
        without, with_it = self.losses(contest, 0.0), self.losses(contest, 5.0)
        for name in without:
            same = torch.allclose(without[name], with_it[name], atol=1e-9)
            # The judgement moves the generator, never the critic.
            assert same == name.startswith("critic.") or without[name].eq(0).all()
        assert any(not torch.allclose(without[n], with_it[n]) for n in without)

    def test_the_model_is_the_generator(self):
        contest = self.contest()
        weights = of_generator(contest.state_dict())
        contest.generator.load_state_dict(weights)
        assert of_generator(weights).keys() == weights.keys()

    def test_it_is_what_its_parts_are(self):
        contest = self.contest()
        assert isinstance(contest, Contest)
        assert contest.spec.outputs == 2
        again = self.contest()
        pairs = zip(contest.parameters(), again.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


class TestSpade:
    def test_a_fresh_one_is_its_norm(self):
        norm = make_norm("group", 2, 32)
        spade = SpatialNorm(norm, 2, 32, told=3)
        x = torch.randn(2, 32, 8, 8, generator=rng())
        condition = torch.randn(2, 3, 32, 32, generator=rng())
        assert torch.equal(spade(x, condition), norm(x))

    def test_a_condition_acts_where_it_is(self):
        """A pixel of the condition changes what lies near it, and nothing else."""
        spade = SpatialNorm(nn.Identity(), 2, 4, told=1)
        nn.init.normal_(spade.both.weight, generator=rng())
        x = torch.randn(1, 4, 16, 16, generator=rng())
        condition = torch.zeros(1, 1, 32, 32)
        before = spade(x, condition)
        condition[0, 0, 10, 20] = 5
        changed = (spade(x, condition) - before).abs().sum(1)[0].nonzero()
        # Two convolutions of 3 px about the pixel (5, 10) of the feature map.
        assert len(changed)
        assert bool(((changed - torch.tensor([5, 10])).abs().amax(1) <= 2).all())

    def test_the_condition_does_not_enter_with_the_state(self):
        spec = preset_spec("resshift_small", channels=2, conditions=3, told=True)
        network = build_network(spec, 0)
        assert network.stem.in_channels == 2
        assert spec.inputs == 5

    def test_plain_networks_cannot(self):
        with pytest.raises(PhantomscopeError, match="residual blocks"):
            make_config({"network": {"preset": "small", "modulation": "spade"}})


@pytest.mark.parametrize("name", ["shift", "one", "judged"])
def test_a_way_is_learnt(tmp_path, name):
    """The image is minus its condition: trained, saved, loaded, and sampled."""
    process = SHIFT if name == "shift" else ONE
    train = Train(
        steps=120, batch_size=8, patch=32, learning_rate=3e-3, warmup=5, ema=0.9,
        adversarial=0.01 if name == "judged" else 0, precision="fp32",
    )  # fmt: skip
    network = Network(preset="small", norm="none")

    def batch(step, size):
        draw = np.random.default_rng(step)
        c = draw.uniform(-1, 1, (size, 1, 1, 1)) * np.ones((1, 1, 32, 32))
        return np.concatenate([-c, c], axis=1).astype(np.float32)

    built = make_network(network, 0, conditions=1, timesteps=process.timesteps)
    objective = Denoising(make_process(process), conditions=1)
    if name == "judged":
        built = make_contest(built, 0)
        objective = Adversarial(make_process(process), conditions=1, weight=0.01)
    trainer = Trainer(
        built, make_process(process), batch, train, seed=0, noise_channel=False,
        identity={"name": name}, state=tmp_path / "state", objective=objective,
    )  # fmt: skip
    trainer.train()
    about = {
        "network": network.model_dump(), "process": process.model_dump(),
        "value_range": (-1.0, 1.0), "conditions": 1,
    }  # fmt: skip
    trainer.save_model(tmp_path / "model.pt", about)
    sampler = Sampler(
        DiffusionModel.load(tmp_path / "model.pt"), Synthesise(**ALL), seed=0
    )
    for value in (-0.5, 0.4):
        condition = np.full((1, 32, 32), value, np.float32)
        found = sampler.unconditional((32, 32), "a", condition)
        assert float(np.median(found)) == pytest.approx(-value, abs=0.15)
