"""Studies of translation: planted artefacts, few steps, uncertainty."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from tests.studies import OPTIONS

from phantomscope.config.load import make_config
from phantomscope.config.study import Study
from phantomscope.engine.process import make_process
from phantomscope.engine.samplers import integrate, plan_steps
from phantomscope.errors import PhantomscopeError
from phantomscope.measure.artefacts import auc, candidate_spots, contrast, reappearance
from phantomscope.measure.translation import (
    RELIABILITY_EDGES,
    error_per_spread,
    reliability_rows,
    uncertainty_row,
)
from phantomscope.planning.sharding import resolved
from phantomscope.simulate.artefacts import (
    Artefact,
    artefact_labels,
    draw_artefacts,
    planted,
    transmission,
)
from phantomscope.stages.studies import artefact_rows

EXTENT, SHAPE, PIXEL = (120.0, 150.0), (240, 250), (0.5, 0.6)
DUST = Artefact("dust", 40.0, 50.0, 12.0, 0.8, ring=0.3)
DEBRIS = Artefact("debris", 80.0, 100.0, 24.0, 0.4, elongation=1.5, angle=0.6, blur=3.0)
BOTH = Study(artefacts=["dust", "debris"])


class TestArtefacts:
    @pytest.mark.parametrize("one", [DUST, DEBRIS])
    def test_area_is_that_of_the_disc(self, one):
        pixels = (artefact_labels([one], SHAPE, PIXEL) == 1).sum()
        assert pixels * 0.3 == pytest.approx(math.pi * one.diameter**2 / 4, rel=0.02)

    def test_light_that_debris_takes(self):
        """A blur moves light, and takes none: absorption times area."""
        through = transmission([DEBRIS], SHAPE, PIXEL)
        taken = (1 - through).sum() * 0.3
        assert taken == pytest.approx(0.4 * DEBRIS.area(), rel=0.01)
        assert 0.6 <= through.min() < 0.63
        assert through.max() == 1

    def test_dust_is_dark_in_a_bright_ring(self):
        through = transmission([DUST], SHAPE, PIXEL)
        centre, ring = (80, 83), (80, 83 + round(1.25 * 6 / 0.6))
        assert through[centre] == pytest.approx(0.2)
        assert through[ring] == pytest.approx(1 + 0.8 * 0.3, rel=0.05)
        # Without the ring: absorption times area.
        bare = transmission([Artefact(**{**vars(DUST), "ring": 0.0})], SHAPE, PIXEL)
        assert (1 - bare).sum() * 0.3 == pytest.approx(0.8 * DUST.area(), rel=0.01)

    def test_nothing_changes_beyond_the_reach(self):
        for one in (DUST, DEBRIS):
            y = (np.arange(SHAPE[0])[:, None] + 0.5) * PIXEL[0] - one.y
            x = (np.arange(SHAPE[1]) + 0.5) * PIXEL[1] - one.x
            far = np.hypot(y, x) > one.reach + 0.6
            through = transmission([one], SHAPE, PIXEL)
            assert np.all(through[far] == 1)
            assert np.abs(through - 1)[~far].max() > 0.1

    def test_the_same_at_any_pixel_size(self):
        fine = transmission([DUST, DEBRIS], SHAPE, PIXEL)
        coarse = transmission([DUST, DEBRIS], (60, 50), (2.0, 3.0))
        blocks = fine.reshape(60, 4, 50, 5).mean((1, 3))
        assert np.abs(blocks - coarse).mean() < 2e-3

    def test_tiny_ones_have_a_pixel(self):
        small = Artefact("dust", 13.0, 22.0, 1.0, 0.5)
        labels = artefact_labels([small], (12, 15), (10.0, 10.0))
        assert (labels == 1).sum() == 1
        assert labels[1, 2] == 1

    def test_drawn_by_seed_and_id(self):
        first = draw_artefacts(EXTENT, BOTH, 3, "a")
        assert first == draw_artefacts(EXTENT, BOTH, 3, "a")
        assert first != draw_artefacts(EXTENT, BOTH, 3, "b")
        assert first != draw_artefacts(EXTENT, BOTH, 4, "a")
        assert sorted(one.kind for one in first) == ["debris"] * 3 + ["dust"] * 3
        for n, one in enumerate(first):
            low, high = BOTH.dust_um if one.kind == "dust" else BOTH.debris_um
            assert low <= one.diameter <= high
            assert one.reach <= one.y <= EXTENT[0] - one.reach
            for other in first[n + 1 :]:
                apart = math.hypot(one.y - other.y, one.x - other.x)
                assert apart >= one.reach + other.reach

    def test_what_does_not_fit_is_told(self):
        with pytest.raises(PhantomscopeError, match="no place") as caught:
            draw_artefacts((20, 20), BOTH, 0, "a")
        assert caught.value.example


def spots(**changes):
    """Bright noise with dust, debris, a long scratch and a large shadow."""
    light = np.random.default_rng(0).normal(1000, 20, SHAPE)
    light = planted(light, transmission([DUST, DEBRIS], SHAPE, PIXEL))
    light[200:203, 20:150] *= 0.5
    light[:, 220:] *= np.linspace(1, 0.9, 30)
    options = {"pixel": PIXEL, "sizes": (4, 30), "darker": 0.15, **changes}
    return light, candidate_spots(light, **options)


class TestSpots:
    def test_round_dark_spots_are_found_and_nothing_else(self):
        _, found = spots()
        known = artefact_labels([DUST, DEBRIS], SHAPE, PIXEL)
        assert found.max() == 2
        for number in (1, 2):
            inside = found[known == number]
            assert np.mean(inside > 0) > 0.6
        assert not found[200:203, 30:140].any()

    def test_sizes_and_depth_decide(self):
        assert spots(sizes=(4, 14))[1].max() == 1
        assert spots(darker=0.5)[1].max() == 1
        assert spots(darker=0.9)[1].max() == 0


def rows_of(translator, samples=1):
    """Compare what a translator makes of a flat image without and with artefacts."""
    artefacts = [DUST, DEBRIS]
    labels = artefact_labels(artefacts, SHAPE, PIXEL)
    clean = np.full((1, *SHAPE), 0.2)
    dirty = clean * 0.5 + 0.5  # transmitted light over 0 ... 1
    dirty = (dirty * transmission(artefacts, SHAPE, PIXEL) - 0.5) / 0.5
    made = [
        np.stack([translator(values, n) for n in range(samples)])
        for values in (clean, dirty)
    ]
    return pd.DataFrame(artefact_rows(
        artefacts, labels, PIXEL, (clean, dirty), tuple(made), ["Mito"]
    )).set_index("kind")  # fmt: skip


class TestReappearance:
    def test_who_copies_shows_the_artefact(self):
        rows = rows_of(lambda values, n: values)
        np.testing.assert_allclose(rows["share"], 1)
        assert (rows["contrast"] > 50).all()
        assert (rows["signed"] < -20).all()
        assert rows["auc"].isna().all()
        # 0.6 of the light, less 0.8 of it, in 127.5 grey values of each unit.
        assert rows.loc["dust", "inside"] == pytest.approx(
            0.8 * 0.6 * 2 * 127.5, rel=0.07
        )

    def test_who_ignores_its_input_shows_nothing(self):
        rows = rows_of(lambda values, n: np.full((1, *SHAPE), 0.1))
        for name in ("inside", "around", "signed", "contrast", "share"):
            assert (rows[name] == 0).all()

    def test_who_inverts_shows_it_bright(self):
        assert (rows_of(lambda values, n: -values)["signed"] > 20).all()

    def test_uncertainty_marks_what_differs_between_predictions(self):
        def unsure(values, n):
            noise = np.random.default_rng(n).normal(0, 0.01, values.shape)
            # An error of its own where the input is unusual.
            return values + noise + (values < 0) * noise * 20

        rows = rows_of(unsure, 6)
        assert (rows["auc"] > 0.9).all()
        # 6 predictions of 1000 pixels tell nothing else.
        assert np.abs(rows["auc_clean"] - 0.5).max() < 0.05

    def test_changes_are_clipped_as_they_are_shown(self):
        mask = np.ones((4, 4), bool)
        found = reappearance(np.full((1, 4, 4), -1.0), np.full((1, 4, 4), -3.0),
                             mask, mask)  # fmt: skip
        assert found == {"inside": 0, "around": 0, "signed": 0}

    def test_auc(self):
        assert auc([3, 4], [1, 2]) == 1
        assert auc([1, 2], [3, 4]) == 0
        assert auc([1, 1], [1, 1, 1]) == 0.5
        assert auc([2], [1, 2, 3, 4]) == pytest.approx(1.5 / 4)
        assert math.isnan(auc([], [1]))

    def test_contrast_has_a_floor(self):
        assert contrast(3, 0) == 6
        assert contrast(0, 0) == 0
        assert contrast(3, 1.5) == 2


def draws(scale=1.0, n=250):
    """Truth and predictions of one distribution, whose width varies; then a spread."""
    random = np.random.default_rng(1)
    width = np.exp(random.normal(-3, 0.5, (n, n)))
    truth, *made = (width * random.standard_normal((n, n)) for _ in range(9))
    return truth, made[0], scale * np.std(made, axis=0, ddof=1), width


class TestUncertainty:
    def test_calibrated_if_truth_is_as_likely_as_a_prediction(self):
        truth, one, spread, _ = draws()
        row = uncertainty_row(truth, one, spread)
        assert row["calibration"] == pytest.approx(1, abs=0.01)
        assert 0.2 < row["rank_correlation"] < 0.6
        assert row["correlation"] > 0.95

    def test_the_mean_of_predictions_errs_less_and_is_calibrated_too(self):
        truth, one, spread, width = draws()
        random = np.random.default_rng(2)
        others = [width * random.standard_normal(width.shape) for _ in range(3)]
        mean = np.mean([one, *others], axis=0)
        row = uncertainty_row(truth, mean, spread, averaged=4)
        assert row["calibration"] == pytest.approx(1, abs=0.01)
        assert error_per_spread() == pytest.approx(2**0.5)
        # The same error is less than that of one prediction would be.
        assert uncertainty_row(truth, mean, spread)["calibration"] == pytest.approx(
            math.sqrt(1.25 / 2), abs=0.01
        )

    @pytest.mark.parametrize("scale", [0.5, 2])
    def test_too_sure_and_too_careful(self, scale):
        truth, one, spread, _ = draws(scale)
        row = uncertainty_row(truth, one, spread)
        assert row["calibration"] == pytest.approx(1 / scale, rel=0.01)

    def test_a_spread_that_says_nothing(self):
        truth, one, spread, _ = draws(n=150)
        shuffled = np.random.default_rng(0).permutation(spread.ravel())
        row = uncertainty_row(truth, one, shuffled.reshape(spread.shape))
        assert abs(row["rank_correlation"]) < 0.03
        assert all(map(math.isnan, uncertainty_row(truth, one, 0 * spread).values()))

    def test_binned_sums_are_those_of_all_pixels(self):
        truth, one, spread, width = draws()
        rows = pd.DataFrame(reliability_rows(truth, one, spread))
        assert rows["pixels"].sum() == truth.size
        assert rows["squared_error"].sum() == pytest.approx(((truth - one) ** 2).sum())
        assert rows["squared_spread"].sum() == pytest.approx((spread**2).sum())
        for row in rows.to_dict("records"):
            mean = math.sqrt(row["squared_spread"] / row["pixels"])
            edges = [0, *RELIABILITY_EDGES, math.inf]
            assert edges[row["bin"]] <= mean <= edges[row["bin"] + 1]
        # With the true width each bin lies on the line.
        exact = pd.DataFrame(reliability_rows(truth, one, width))
        exact = exact[exact["pixels"] > 2000]
        np.testing.assert_allclose(
            exact["squared_error"], 2 * exact["squared_spread"], rtol=0.12
        )
        assert len(exact) > 4


@pytest.mark.parametrize("steps", range(1, 16))
def test_any_number_of_steps_has_the_marginals_of_the_process(steps):
    """Who knows x0 gets it back, through states as the process has them."""
    process = make_process(
        make_config({"process": {"kind": "residual_shift", "timesteps": 15}}).process
    )
    plan = plan_steps(process, 15, steps, "ddpm", spacing="uniform")
    assert len(plan) == steps
    assert (plan[0].t, plan[-1].u) == (15, 0)
    assert all(step.on_condition == 0 for step in plan)
    random = torch.Generator().manual_seed(steps)
    x0, c, n = 0.5, -0.5, 20_000

    def noise(u=0):
        return torch.randn(n, generator=random)

    x = process.prior(noise(), torch.full((n,), c))
    # The prior takes the condition for the image.
    x = x + process.a[15] * (x0 - c)
    for step in plan:
        x = integrate([step], x, lambda x, t: torch.full((n,), x0), noise)
        mean = process.a[step.u] * x0 + process.b[step.u] * c
        assert float(x.mean()) == pytest.approx(mean, abs=0.05)
        assert float(x.std()) == pytest.approx(process.s[step.u], abs=0.03)


class TestConfig:
    @pytest.mark.parametrize(
        ("study", "said"),
        [
            ({"steps": [4, 4]}, "twice"),
            ({"dust_um": [8, 4]}, "smallest"),
            ({"methods": ["pix2pix"]}, "not in `methods`"),
            ({"artefacts": ["hair"]}, "hair|dust"),
        ],
    )
    def test_what_cannot_be_is_told(self, study, said):
        options = {**OPTIONS, "translate": {**OPTIONS["translate"], "study": study}}
        with pytest.raises(PhantomscopeError, match=said):
            make_config(options)

    def test_steps_need_residual_diffusion(self):
        changes = {"methods": ["unet"], "study": {"steps": [4]}}
        options = {**OPTIONS, "translate": {**OPTIONS["translate"], **changes}}
        with pytest.raises(PhantomscopeError, match="residual diffusion"):
            make_config(options)

    def test_more_steps_than_times_are_told_before_anything_runs(self):
        study = {"steps": [4, 16]}
        options = {**OPTIONS, "translate": {**OPTIONS["translate"], "study": study}}
        with pytest.raises(PhantomscopeError, match="cannot take 16 steps"):
            resolved(make_config(options))
