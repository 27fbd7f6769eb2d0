"""Few-step students: the exact target, learning it, resume, and who taught them."""

import copy
import itertools

import numpy as np
import pytest
import torch

from phantomscope.config.diffusion import Distil, Network, Train
from phantomscope.config.model import Config
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.engine.distil import (
    Distillation,
    equivalent_x0,
    output_of_x0,
    segment_times,
    student_options,
    student_training,
    truncated_snr,
)
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import make_network
from phantomscope.engine.objective import Denoising, loss_weights
from phantomscope.engine.process import Process, cosine_alpha_bar
from phantomscope.engine.samplers import ddim_steps, integrate, time_grid
from phantomscope.engine.train import Trainer
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import derive_key, generator
from phantomscope.images.normalise import Normalisation
from phantomscope.simulate.parameters import SketchParameters, SketchType
from phantomscope.simulate.patches import SketchPatches
from phantomscope.stages.diffusion import distil

ALPHA_BAR = cosine_alpha_bar(1000)
PROCESSES = {p: Process.gaussian(ALPHA_BAR, p) for p in ("eps", "x0", "v")}
START = 300
SD = 0.4  # of the Gaussian data


def batch(step: int, size: int) -> np.ndarray:
    rng = generator("sketches", step)
    return (SD * rng.standard_normal((size, 1, 8, 8))).astype(np.float32)


class Ideal(torch.nn.Module):
    """The exact network for independent pixels N(0, SD^2)."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process, self.unused = process, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t):
        t = int(t[0])
        a, s = self.process.a[t], self.process.s[t]
        x0 = a * SD**2 / (a**2 * SD**2 + s**2) * x[:, :1]
        return output_of_x0(self.process, x0, x[:, :1], t)


class Gains(torch.nn.Module):
    """A number per time: all that the student of an ideal teacher has to know."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(1001))

    def forward(self, x, t):
        return self.gain[t].reshape(-1, 1, 1, 1) * x


def flow(t: int, u: int) -> float:
    """Return by what the probability-flow ODE multiplies a pixel from t to u."""
    variance = ALPHA_BAR * SD**2 + 1 - ALPHA_BAR
    return float(np.sqrt(variance[u] / variance[t]))


def objective(process, steps, teacher_steps=60, **changes) -> Distillation:
    times = segment_times(process, START, steps, teacher_steps)
    return Distillation(Ideal(process), process, START, times, **changes)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_segments_end_at_the_times_of_the_sampler(steps):
    process = PROCESSES["eps"]
    times = segment_times(process, START, steps, 12)
    assert [part[0] for part in times] + [0] == time_grid(process, START, steps)
    assert all(a[-1] == b[0] for a, b in itertools.pairwise(times))
    assert sum(len(part) - 1 for part in times) == 12
    # A short way has no more times than it is long.
    assert segment_times(process, 4, 4, 100) == [[4, 3], [3, 2], [2, 1], [1, 0]]


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
@pytest.mark.parametrize("prediction", PROCESSES)
def test_targets_go_where_the_exact_solution_goes(prediction, solver, steps):
    process = PROCESSES[prediction]
    errors = []
    for teacher_steps in (20, 80):
        made = objective(process, steps, teacher_steps, solver=solver)
        x, t, target = made.draw(
            torch.from_numpy(batch(0, 8)), torch.Generator().manual_seed(0)
        )
        ends = time_grid(process, START, steps)
        assert t.tolist() == ends[:-1] * (8 // steps)
        worst = 0.0
        for n in range(8):
            u = ends[n % steps + 1]
            x0 = process.to_x0(target[n], x[n], int(t[n]))
            (step,) = ddim_steps(process, [int(t[n]), u])
            landed = step.on_x * x[n] + step.on_x0 * x0
            error = (landed - flow(int(t[n]), u) * x[n]).abs().max()
            worst = max(worst, float(error))
        errors.append(worst)
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 3


@pytest.mark.parametrize("prediction", PROCESSES)
def test_conversions_undo_each_other(prediction):
    process = PROCESSES[prediction]
    x, wanted = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    (step,) = ddim_steps(process, [200, 100])
    x0 = equivalent_x0(step, x, wanted)
    torch.testing.assert_close(step.on_x * x + step.on_x0 * x0, wanted)
    output = output_of_x0(process, x0, x, 200)
    torch.testing.assert_close(process.to_x0(output, x, 200), x0)


def test_weights_are_the_truncated_snr():
    snr = (PROCESSES["x0"].a[1:] / PROCESSES["x0"].s[1:]) ** 2
    np.testing.assert_allclose(truncated_snr(PROCESSES["x0"])[1:], np.maximum(snr, 1))
    # More image than noise: the plain error of eps.
    np.testing.assert_allclose(truncated_snr(PROCESSES["eps"])[1:START], 1)
    # `min_snr` weighs the same errors; beyond its limit nothing is shared.
    error_v = loss_weights(PROCESSES["v"], "min_snr", 1e12)[1:] / snr
    v = truncated_snr(PROCESSES["v"])[1:]
    np.testing.assert_allclose(v, np.maximum(snr, 1) * error_v)


def options(**changes) -> Train:
    return Train(
        **({"steps": 12, "batch_size": 8, "patch": 16, "warmup": 2, "device": "cpu",
            "checkpoint_every": 4, "precision": "fp32"} | changes)
    )  # fmt: skip


@pytest.mark.parametrize("steps", [1, 2])
def test_a_student_learns_the_exact_solution(steps, tmp_path):
    process = PROCESSES["eps"]
    trainer = Trainer(
        Gains(), process, batch, options(steps=400, learning_rate=0.05, decay=0.5),
        seed=0, noise_channel=False, identity={}, state=tmp_path,
        objective=objective(process, steps, solver="dpmpp_2m"),
    )  # fmt: skip
    trainer.train()
    student = Gains()
    student.load_state_dict(trainer.run.average)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))

    def predict(state, t):
        return process.to_x0(student(state, torch.full((4,), t)), state, t)

    with torch.no_grad():
        made = integrate(
            ddim_steps(process, time_grid(process, START, steps)), x, predict,
            torch.zeros,
        )  # fmt: skip
        few = integrate(
            ddim_steps(process, time_grid(process, START, steps)), x,
            lambda state, t: process.to_x0(
                Ideal(process)(state, torch.full((4,), t)), state, t
            ), torch.zeros,
        )  # fmt: skip
    exact = flow(START, 0) * x
    assert (made - exact).abs().max() < 0.02
    assert (made - exact).abs().max() < (few - exact).abs().max() / 5


def student(state, source=batch, **changes) -> Trainer:
    process = PROCESSES["eps"]
    teacher = make_network(Network(preset="small"), 0).eval()
    times = segment_times(process, START, 2, 4)
    return Trainer(
        copy.deepcopy(teacher), process, source, options(**changes), seed=0,
        noise_channel=False, identity={"teacher": "a"}, state=state,
        objective=Distillation(teacher, process, START, times),
    )  # fmt: skip


def weights(t: Trainer) -> torch.Tensor:
    return torch.cat([v.flatten() for v in t.run.average.values()])


def test_stopped_and_resumed_equals_undisturbed(tmp_path):
    whole = student(tmp_path / "whole")
    whole.train()

    def failing(step, size):
        if step == 6:
            raise RuntimeError("power cut")
        return batch(step, size)

    with pytest.raises(RuntimeError, match="power cut"):
        student(tmp_path / "cut", failing).train()
    again = student(tmp_path / "cut")
    assert again.resume() == 4
    again.train()
    assert torch.equal(weights(whole), weights(again))


def test_micro_batches_do_not_change_the_result_beyond_rounding(tmp_path):
    whole, parts = student(tmp_path / "a"), student(tmp_path / "b", micro_batch=1)
    assert float(whole._step()) == pytest.approx(float(parts._step()), rel=1e-4)


def test_the_teacher_is_left_as_it_is(tmp_path):
    trainer = student(tmp_path)
    before = copy.deepcopy(trainer.objective.teacher.state_dict())
    trainer.train()
    after = trainer.objective.teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(weights(trainer), weights(student(tmp_path / "b")))


def test_a_noise_channel_is_what_the_teacher_saw():
    process = PROCESSES["eps"]
    made = objective(process, 2, 4, noise_channel=True)
    x, _, target = made.draw(torch.zeros(5, 1, 8, 8), torch.Generator().manual_seed(0))
    assert x.shape == (5, 2, 8, 8)
    assert target.shape == (5, 1, 8, 8)


@pytest.mark.parametrize("noise_channel", [False, True])
def test_the_default_objective_is_diffusion_bit_for_bit(noise_channel, tmp_path):
    """As `Trainer` had it before there were objectives."""
    process, x0 = PROCESSES["v"], torch.from_numpy(batch(0, 6))
    network = make_network(Network(preset="small", noise_channel=noise_channel), 0)
    trainer = Trainer(
        network, process, batch, options(), seed=5, noise_channel=noise_channel,
        identity={}, state=tmp_path,
    )  # fmt: skip
    assert trainer.objective == Denoising(process, noise_channel)
    rng = torch.Generator().manual_seed(derive_key(5, "training", 0) >> 1)
    t = torch.randint(1, 1001, (6,), generator=rng)
    noise = torch.randn(x0.shape, generator=rng)
    x = process.q_sample(x0, t, noise)
    if noise_channel:
        x = torch.cat([x, torch.randn(x0.shape, generator=rng)], dim=1)
    target = process.target(x0, t, noise)
    for found, wanted in zip(trainer._corrupted(x0, 0), (x, t, target), strict=True):
        assert torch.equal(found, wanted)
    loss = torch.nn.functional.mse_loss(network(x, t), target)
    assert torch.equal(trainer._loss(x, t, target), loss)


def test_a_student_takes_its_own_steps_from_its_own_start():
    own = Synthesise(spacing="quadratic", steps=20, sampler="ddpm", eta=0.5, tile=64)
    meta = {"distilled": {"steps": 2, "t_start": 300}}
    found = student_options(meta, own, 300)
    forced = {"steps": 2, "sampler": "ddim", "eta": 0.0, "spacing": "uniform"}
    assert found == own.model_copy(update=forced)
    assert student_options({}, own, 300) is own
    with pytest.raises(PhantomscopeError, match="trained for t_start = 300, not 400"):
        student_options(meta, own, 400)


def test_other_options_of_the_training_are_those_of_the_teacher():
    train = Train(batch_size=12, micro_batch=6, optimiser="adam", checkpoint_every=7)
    found = student_training(Distil(batch_size=8, train_steps=5), train)
    assert (found.steps, found.batch_size, found.micro_batch) == (5, 8, 2)
    assert (found.optimiser, found.checkpoint_every) == ("adam", 7)
    assert Train(**found.model_dump()) == found


KIND = SketchType(
    name="a", radius=[4, 4, 5, 5, 6, 6, 7], elongation=[1] * 5 + [1.2] * 2,
    intensity=[0.5] * 7, density=[2000] * 7, clustering=0.2,
)  # fmt: skip
PARAMETERS = SketchParameters(types=[KIND])


def test_sketch_patches_are_a_pure_function():
    simulate = Config().simulate
    one = SketchPatches(PARAMETERS, simulate, "sqrt", 32, 0)
    more = simulate.model_copy(update={"images": 99, "size": (64, 64)})
    two = SketchPatches(PARAMETERS, more, "sqrt", 32, 0)
    assert one.identity == two.identity
    assert one.batch(3, 2).shape == (2, 1, 32, 32)
    assert np.array_equal(one.batch(3, 2), two.batch(3, 2))
    assert not np.array_equal(one.batch(3, 2), one.batch(4, 2))
    other = SketchPatches(PARAMETERS, simulate, "sqrt", 32, 1)
    assert not np.array_equal(one.batch(3, 2), other.batch(3, 2))


@pytest.fixture
def taught(tmp_path):
    """A function that distils a hardly trained teacher and loads the student."""
    config = Config(
        network=Network(preset="small"), train=options(),
        distil=Distil(steps=2, train_steps=3, teacher_steps=4, patch=16, batch_size=4),
    )  # fmt: skip
    scale = Normalisation("dataset", "sqrt", {"a": (0.0, 200.0)}, "uint8")
    scale.save(tmp_path / "normalisation.json")
    PARAMETERS.save(tmp_path / "sketch.yaml")

    def run(teacher="one", t_start=300, config=config) -> DiffusionModel:
        shape = config.model_dump(include={"network", "process"})
        model = Trainer(
            make_network(config.network, 0), PROCESSES["eps"], batch, options(steps=1),
            seed=0, noise_channel=False, identity={"a": teacher},
            state=tmp_path / teacher,
        )  # fmt: skip
        model.train()
        model.save_model(
            tmp_path / "model.pt", {**shape, "value_range": (-1, 1), "seed": 0}
        )
        (tmp_path / "start.json").write_text(f'{{"value": {t_start}}}')
        distil(
            config, normalisation=tmp_path / "normalisation.json",
            sketch=tmp_path / "sketch.yaml", model=tmp_path / "model.pt",
            start=tmp_path / "start.json", student=tmp_path / "student.pt",
            student_metrics=tmp_path / "metrics.jsonl", state=tmp_path / "state",
        )  # fmt: skip
        return DiffusionModel.load(tmp_path / "student.pt")

    run.folder, run.config = tmp_path, config
    return run


def test_the_model_file_says_what_it_is(taught):
    found = taught()
    teacher = load_checkpoint(taught.folder / "model.pt")[1]
    assert found.meta["distilled"] == {
        "teacher": teacher["fingerprint"],
        "method": "teacher's way in one DDIM step per segment",
        "steps": 2, "t_start": 300, "teacher_steps": 4, "teacher_sampler": "dpmpp_2m",
    }  # fmt: skip
    assert found.meta["steps"] == 3
    assert found.process.prediction == "eps"
    assert found.value_range == (-1, 1)


def test_another_teacher_or_start_is_another_student(taught, capsys):
    marks = {taught().meta["fingerprint"]}
    assert "superseded" not in capsys.readouterr().out
    marks.add(taught(teacher="two").meta["fingerprint"])
    assert "superseded" in capsys.readouterr().out
    marks.add(taught(t_start=200).meta["fingerprint"])
    assert len(marks) == 3


def test_what_cannot_be_distilled_is_refused(taught):
    taught()
    (taught.folder / "student.pt").replace(taught.folder / "model.pt")
    paths = {name: taught.folder / name for name in ("student.pt", "state")}
    files = {
        "normalisation": taught.folder / "normalisation.json",
        "sketch": taught.folder / "sketch.yaml", "model": taught.folder / "model.pt",
        "start": taught.folder / "start.json", "student": paths["student.pt"],
        "student_metrics": taught.folder / "m.jsonl", "state": paths["state"],
    }  # fmt: skip
    with pytest.raises(PhantomscopeError, match="student itself"):
        distil(taught.config, **files)
    with pytest.raises(PhantomscopeError, match="no steps"):
        distil(Config(), **files)
