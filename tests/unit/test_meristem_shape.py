"""The shape model: analytic organs, components, files."""

import json

import numpy as np
import pytest

from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.simulate.meristem_outline import (
    directions,
    find_pose,
    place_organ,
    surface_radii,
    unit_vectors,
)
from phantomscope.simulate.meristem_shape import (
    ShapeModel,
    default_model,
    learn_shape_model,
)


def ellipsoid(axes, shape=(60, 80, 100), spacing=(1, 1, 1), middle=None, turn=0.0):
    """Half axes (z, y, x) in units of the spacing."""
    size = np.multiply(shape, spacing)
    middle = size / 2 if middle is None else np.asarray(middle)
    grids = np.meshgrid(
        *((np.arange(n) + 0.5) * s for n, s in zip(shape, spacing, strict=True)),
        indexing="ij",
    )
    z, y, x = (g - m for g, m in zip(grids, middle, strict=True))
    c, s = np.cos(turn), np.sin(turn)
    y, x = c * y - s * x, s * y + c * x
    return (z / axes[0]) ** 2 + (y / axes[1]) ** 2 + (x / axes[2]) ** 2 <= 1


def ellipsoid_radii(axes, rays):
    return 1 / np.sqrt(((rays / np.asarray(axes)) ** 2).sum(axis=1))


def test_directions_are_even():
    rays = unit_vectors(directions(5000, "centroid"))
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1)
    assert np.abs(rays.mean(axis=0)).max() < 1e-3
    np.testing.assert_allclose(rays.T @ rays / 5000, np.eye(3) / 3, atol=1e-3)
    half = unit_vectors(directions(5000, "base"))
    assert half[:, 0].min() > 0
    assert half[:, 0].mean() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 1, 1)])
def test_radii_of_an_ellipsoid(spacing):
    shape = tuple(int(n / s) for n, s in zip((60, 80, 100), spacing, strict=True))
    axes = (20, 30, 40)
    mask = ellipsoid(axes, shape, spacing)
    rays = unit_vectors(directions(500, "centroid"))
    radii = surface_radii(find_pose(mask, spacing, base=False, align=False), rays)
    error = radii - ellipsoid_radii(axes, rays)
    assert np.abs(error).mean() < 0.5
    assert abs(error.mean()) < 0.3


def test_alignment_undoes_a_turn():
    model = learn_shape_model(
        [ellipsoid((20, 28, 38), (60, 90, 90), turn=t) for t in (0.0, 0.6, 1.4, 2.5)],
        samples=800,
    )
    rays = unit_vectors(model.angles)
    error = model.mean - ellipsoid_radii((20, 28, 38), rays)
    assert np.abs(error).mean() < 0.5
    plain = learn_shape_model(
        [ellipsoid((20, 28, 38), (60, 90, 90), turn=t) for t in (0.0, 0.6, 1.4, 2.5)],
        samples=800, align=False,
    )  # fmt: skip
    assert model.variances[0] < 0.05 * plain.variances[0]


@pytest.mark.parametrize("pca", ["data", "code"])
def test_components_recover_the_axis_that_varies(pca):
    lengths = np.array([30, 33, 36, 39, 42])
    masks = (ellipsoid((18, 24, a), (50, 60, 100)) for a in lengths)
    model = learn_shape_model(masks, samples=1000, pca=pca)
    rays = unit_vectors(model.angles)
    change = ellipsoid_radii((18, 24, 37), rays) - ellipsoid_radii((18, 24, 35), rays)
    first = model.components[0]
    assert abs(first @ change) / np.linalg.norm(change) > 0.97
    assert model.variances[0] > 20 * model.variances[1]
    # Along the first component the x axis scales as in the masks.
    exact = np.stack([ellipsoid_radii((18, 24, a), rays) for a in lengths])
    variance = ((exact - exact.mean(axis=0)) ** 2).sum() / (len(lengths) - 1)
    # What the released code subtracts from the covariance matrix makes it smaller.
    share = model.variances[0] / variance
    assert 0.9 < share < 1.1 if pca == "data" else 0.5 < share < 1.1
    assert model.components.shape == (3, 1000)
    drawn = np.stack([model.draw(generator(1, "organ", i)) for i in range(300)])
    assert drawn.var(axis=0).sum() == pytest.approx(model.variances.sum(), rel=0.2)


def test_code_variant_equals_pca_of_the_covariance_matrix():
    rng = generator(5, "radii")
    data = 10 + rng.standard_normal((6, 40)) @ rng.standard_normal((40, 40))
    from phantomscope.simulate.meristem_shape import _components

    parts, variances = _components(data, 3, "code")
    cov = np.cov(data.T)
    _, sizes, rows = np.linalg.svd(cov - cov.mean(axis=0))
    np.testing.assert_allclose(variances, sizes[:3], rtol=1e-9)
    np.testing.assert_allclose(np.abs((parts * rows[:3]).sum(axis=1)), 1, rtol=1e-9)


def test_a_dome_cut_by_the_first_or_the_last_plane():
    dome = ellipsoid((30, 25, 32), (35, 70, 80), middle=(0, 35, 40))
    for mask in (dome, dome[::-1]):
        model = learn_shape_model([mask], samples=600)
        assert model.origin == "base"
        rays = unit_vectors(model.angles)
        error = model.mean - ellipsoid_radii((30, 25, 32), rays)
        assert np.abs(error).mean() < 0.6


def test_an_organ_whose_tip_is_cut_has_no_base():
    mask = ellipsoid((25, 20, 30), (48, 60, 80), middle=(24, 30, 40))
    assert mask[0].any()
    assert learn_shape_model([mask], samples=100).origin == "centroid"
    assert learn_shape_model([mask], samples=100, origin="base").origin == "base"


def test_one_mask_gives_one_shape():
    model = learn_shape_model([ellipsoid((20, 25, 30))], samples=100)
    assert model.components.shape == (0, 100)
    one, two = (model.draw(generator(1, "o", i)) for i in range(2))
    np.testing.assert_array_equal(one, two)


def test_debris_and_gaps_do_no_harm():
    mask = ellipsoid((20, 25, 30))
    clean = learn_shape_model([mask], samples=200)
    dirty = mask.copy()
    dirty[28:32, 38:42, 45:55] = False
    dirty[1:3, 1:3, 1:3] = True
    found = learn_shape_model([dirty.astype(np.uint16) * 7], samples=200)
    assert np.abs(found.mean - clean.mean).max() < 1.0


@pytest.mark.parametrize(
    ("masks", "options", "message"),
    [
        ([], {}, "no mask"),
        ([np.zeros((4, 4, 4))], {}, "empty"),
        ([np.ones((4, 4))], {}, "no volume"),
        ([ellipsoid((20, 25, 30))], {"origin": "base"}, "no cut base"),
    ],
)
def test_bad_masks(masks, options, message):
    with pytest.raises(PhantomscopeError, match=message):
        learn_shape_model(masks, samples=50, **options)


def test_round_trip(tmp_path):
    model = default_model(300)
    path = tmp_path / "shape.npz"
    model.save(path)
    again = ShapeModel.load(path)
    for name in ("angles", "mean", "components", "variances"):
        np.testing.assert_array_equal(getattr(model, name), getattr(again, name))
    assert (again.origin, again.specimens) == ("base", 0)
    assert [p.name for p in tmp_path.iterdir()] == ["shape.npz"]


def _write(path, **changes):
    model = default_model(50)
    head = {
        "format": "phantomscope shape model 1", "origin": "base", "specimens": 1,
    }  # fmt: skip
    parts = {
        "head": np.array(json.dumps(head)), "angles": model.angles,
        "mean": model.mean, "components": model.components,
        "variances": model.variances,
    } | changes  # fmt: skip
    with open(path, "wb") as file:
        np.savez(file, **{k: v for k, v in parts.items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": None}, "mean"),
        ({"mean": np.full(50, np.nan)}, "finite"),
        ({"mean": np.full(49, 1.0)}, "shapes"),
        ({"variances": np.full(3, -1.0)}, "negative"),
        ({"head": np.array('{"format": "other"}')}, "does not say"),
        ({"head": np.array("[")}, "no shape model"),
        ({"mean": np.array([object()])}, "no shape model"),
    ],
)
def test_broken_files(tmp_path, changes, message):
    path = tmp_path / "shape.npz"
    _write(path, **changes)
    with pytest.raises(PhantomscopeError, match=message):
        ShapeModel.load(path)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04broken"])
def test_no_archive(tmp_path, content):
    path = tmp_path / "shape.npz"
    path.write_bytes(content)
    with pytest.raises(PhantomscopeError, match="no shape model"):
        ShapeModel.load(path)
    with pytest.raises(PhantomscopeError, match="no such file"):
        ShapeModel.load(tmp_path / "none.npz")


@pytest.mark.parametrize("flip", [False, True])
def test_an_organ_is_placed_into_its_volume(flip):
    axes = np.array([30.0, 25.0, 32.0])
    vectors = unit_vectors(directions(4000, "base"))
    organ = place_organ(
        vectors, ellipsoid_radii(axes, vectors), extent=(31.6, 80, 100), base=True,
        fill=0.95, angle=0.7, flip=flip,
    )  # fmt: skip
    mask = organ.mask((32, 80, 100), (1, 1, 1))
    # The base is on the right face, and the turned ellipsoid is found again.
    axes *= 0.95 * 31.6 / 30
    wanted = ellipsoid(
        axes, (32, 80, 100), middle=(31.6 if flip else 0, 40, 50), turn=0.7
    )
    assert (mask != wanted).sum() < 0.03 * wanted.sum()
    window = organ.mask((10, 20, 30), (1, 1, 1), (5, 30, 40))
    np.testing.assert_array_equal(window, mask[5:15, 30:50, 40:70])
    np.testing.assert_allclose(organ.sample(organ.rays), organ.radii, rtol=0.02)


def test_the_default_is_a_paraboloid_of_the_published_size():
    model = default_model()
    z, y, x = (unit_vectors(model.angles) * model.mean[:, None]).T
    np.testing.assert_allclose(z, 221 * (1 - (x / 255.5) ** 2 - (y / 247.5) ** 2))
    assert np.ptp(x) == pytest.approx(511, rel=0.01)
    assert np.ptp(y) == pytest.approx(495, rel=0.01)
    assert z.max() == pytest.approx(221, rel=0.01)
    assert model.specimens == 0
