"""Labels against images: phantoms, vanished objects, agreement; choice of t_start."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from phantomscope.config.diffusion import Start
from phantomscope.engine.process import Process, cosine_alpha_bar
from phantomscope.engine.start import (
    choose,
    excess_distance,
    forward_distances,
    relative_fidelity,
)
from phantomscope.measure import morphology
from phantomscope.measure.fidelity import (
    check_fidelity,
    find_phantoms,
    wall_contrast,
)


def scene(dim: bool = False, phantom: bool = False):
    """Nine discs on a noisy background; perhaps one vanished, one without label."""
    y, x = np.mgrid[:192, :192]
    labels = np.zeros((192, 192), np.uint16)
    for n in range(9):
        cy, cx = 32 + 64 * (n // 3), 32 + 64 * (n % 3)
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= 100] = n + 1
    light = 0.5 * (labels > 0)
    if dim:
        light[labels == 5] = 0
    if phantom:
        light[(y - 64) ** 2 + (x - 64) ** 2 <= 100] = 0.5
    image = ndimage.gaussian_filter(0.1 + light, 1.5)
    return image + np.random.default_rng(0).normal(0, 0.02, image.shape), labels


def test_a_faithful_image_passes():
    found = check_fidelity(*scene(), radius=10)
    assert len(found.objects) == 9
    assert found.phantoms == 0
    assert not found.vanished(1.0).any()
    assert found.agreement > 0.93
    assert found.f1 == 1


def test_a_vanished_object_is_found():
    found = check_fidelity(*scene(dim=True), radius=10)
    gone = found.objects["label"][found.vanished(1.0)]
    assert list(gone) == [5]


def test_a_phantom_is_found():
    image, labels = scene(phantom=True)
    assert check_fidelity(image, labels, radius=10).phantoms == 1
    found = find_phantoms(image, labels, np.pi * 10**2)
    assert np.array_equal(np.unique(found), [0, 1])
    assert not labels[found > 0].any()
    # One of a third of the size is the smallest that counts.
    assert not find_phantoms(image, labels, 4 * (found > 0).sum()).any()


def test_shifted_labels_lower_the_agreement():
    image, labels = scene()
    shifted = check_fidelity(image, np.roll(labels, 8, axis=1), 10)
    assert shifted.agreement < 0.7


def test_an_image_without_objects_is_consistent():
    image = np.random.default_rng(0).normal(0.1, 0.02, (64, 64))
    found = check_fidelity(image, np.zeros((64, 64), int), 10)
    assert found.agreement == 1
    assert len(found.objects) == 0


@pytest.mark.filterwarnings("error")
def test_contrast_of_walls():
    labels = np.repeat([1, 2, 0], 20)[None].repeat(30, 0)
    walls = ndimage.gaussian_filter(1.0 * (np.abs(np.arange(60) - 19.5) < 1), 1)
    image = walls + np.random.default_rng(0).normal(0, 0.01, labels.shape)
    found = wall_contrast(image, labels, np.array([1, 2, 7]))
    # The second cell's other wall is dark.
    assert found[0] > found[1] > 10
    # There is nothing to see of a label that is not there.
    assert found[2] == np.inf


def test_classical_segmentation_and_measures():
    image, labels = scene()
    again = morphology.segment(image)
    assert len(np.unique(again)) == 10
    table = morphology.object_table(again, image)
    assert table["radius"].median() == pytest.approx(10, rel=0.06)
    assert not table["border"].any()
    assert not table["neighbours"].any()
    assert morphology.edge_softness(image, labels) == pytest.approx(1.5, rel=0.2)
    background = morphology.background_model(image, labels, 10)
    assert background.level == pytest.approx(0.1, abs=0.01)
    assert background.read == pytest.approx(0.02, rel=0.2)
    assert morphology.typical_radius(np.zeros((32, 32), bool)) == 0


def test_signed_distance_is_half_a_pixel_at_the_edge():
    labels = np.zeros((1, 10), int)
    labels[:, 4:7] = 1
    distance = morphology.signed_distance(labels)
    assert distance[0, 3] == 0.5
    assert distance[0, 4] == -0.5


def test_distances_fall_with_noise():
    rng = np.random.default_rng(0)
    real = [rng.normal(0, 0.3, (64, 64)) for _ in range(4)]
    flat = [np.zeros((64, 64)) for _ in range(4)]
    process = Process.gaussian(cosine_alpha_bar(1000))
    table = forward_distances(real, flat, process, [50, 300, 800])
    for column in ("kl_intensity", "bd_intensity", "kl_texture", "bd_texture"):
        assert table[column].is_monotonic_decreasing
    assert table["bd_intensity"].iloc[-1] < 0.01


def test_excess_is_what_goes_beyond_real_images():
    names = ("bd_intensity", "bd_intensity_real", "bd_texture", "bd_texture_real")
    table = pd.DataFrame([[0.5, 0.1, 0.3, 0.0], [0.1, 0.2, 0.1, 0.3]], columns=names)
    assert list(excess_distance(table)) == pytest.approx([0.4, 0.0])
    same = [np.random.default_rng(n).normal(0, 0.3, (64, 64)) for n in range(8)]
    process = Process.gaussian(cosine_alpha_bar(1000))
    found = forward_distances(same[:4], same[4:], process, [100, 500])
    assert (excess_distance(found) < 0.002).all()


def test_fidelity_falls_with_noise_whatever_a_few_sketches_say():
    found = relative_fidelity([0.9, 0.8, 0.9, 0.45])
    assert found == pytest.approx([1.0, 0.85 / 0.9, 0.85 / 0.9, 0.5])


def candidates(distances, fidelities):
    return pd.DataFrame(
        {
            "t": [100, 200, 300],
            "excess": distances,
            "fidelity_relative": fidelities,
        }
    )


@pytest.mark.parametrize(
    ("distances", "fidelities", "value", "reason"),
    [
        ([0.1, 0.0005, 0.0001], [1.0, 0.95, 0.9], 200, "the smallest time"),
        ([0.1, 0.02, 0.0001], [1.0, 0.95, 0.5], 200, "no time is both"),
        ([0.1, 0.02, 0.0001], [0.5, 0.7, 0.6], 200, "no time keeps the labels"),
    ],
)
def test_choice_of_the_start(distances, fidelities, value, reason):
    choice = choose(candidates(distances, fidelities), Start())
    assert choice.value == value
    assert choice.reason.startswith(reason)


def test_a_fixed_start_is_kept():
    choice = choose(candidates([1, 1, 1], [0, 0, 0]), Start(value=350))
    assert choice.value == 350
    assert "fixed in the config" in choice.reason
