"""Features of objects on real and predicted stains: measured, compared, tabulated."""

import numpy as np
import pandas as pd
import pytest

from phantomscope.config.load import make_config
from phantomscope.engine.pairs import to_stored
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages.profiles import compare_profiles, measure_profiles

SIDE = 64
WELLS = ("A01", "A02", "B01", "B02")
TRIVIAL = ("Count", "Neighbors")


def config_of(**translate):
    plates = {
        "kind": "fields", "inputs": ["Brightfield"], "stains": ["DNA", "ER_1"],
        "fields": {"path": "nowhere", "channels": ["Brightfield", "DNA", "ER_1"]},
    }  # fmt: skip
    return make_config({
        "experiment": "here", "evaluate": {"resamples": 30},
        "translate": {"methods": ["unet"], "plates": plates, **translate},
    })  # fmt: skip


def scene(name, objects=5):
    """Squares whose stains differ: (stains, nuclei)."""
    random = generator("scene", name)
    labels, stains = np.zeros((SIDE, SIDE), np.uint16), np.full((2, SIDE, SIDE), -0.9)
    places = [(6, 6), (6, 36), (36, 6), (36, 36), (22, 22)][:objects]
    for number, (y, x) in enumerate(places, 1):
        side = int(random.integers(8, 13))
        where = (slice(y, y + side), slice(x, x + side))
        labels[where] = number
        bright = random.uniform(-0.5, 0.8, (2, 1, 1))
        stains[:, *where] = bright + random.normal(0, 0.1, (2, side, side))
    return stains.clip(-1, 1), labels


def write_pairs(folder, wells=WELLS, sites=2, **columns):
    with ImageSetWriter(folder, {}) as writer:
        for well in wells:
            for site in range(sites):
                name = f"{well}-{site}"
                stains, nuclei = scene(name)
                every = np.concatenate([stains[:1], stains, stains])
                known = {"split": "test", "group": f"p-{well}", "well": well,
                         "plate": "p", "cell_line": "U2OS", **columns}  # fmt: skip
                writer.add(name, to_stored(every), nuclei, cells=nuclei, channels=5,
                           **{k: v for k, v in known.items() if v is not None})  # fmt: skip
    return folder


def write_translated(folder, pairs, change=lambda name, stains: stains, moved=0):
    with ImageSetWriter(folder, {}) as writer:
        for well in WELLS:
            for site in range(2):
                name = f"{well}-{site}"
                stains, nuclei = scene(name)
                found = np.roll(nuclei, moved, 1)
                every = np.concatenate([change(name, stains), stains])
                writer.add(name, to_stored(every), found, cells=found, channels=4)
    return folder


def compared(folder, config, translated, way="found", **pairs):
    """Correlations and retrieval of one method."""
    real = folder / "profiles/real"
    pairs = folder / "pairs"
    if not pairs.exists():
        write_pairs(pairs)
    shards = range(config.translate.shards)
    for n in shards:
        if not (real / f"{n}").exists():
            measure_profiles(
                config, pairs=pairs, profiles=real / f"{n}", objects="true", shard=n
            )
        measure_profiles(
            config, pairs=pairs, profiles=folder / f"{translated.name}-{way}/{n}",
            translated=[translated], objects=way, shard=n,
        )  # fmt: skip
    scores = folder / f"scores-{translated.name}-{way}"
    compare_profiles(
        config, real=[real / f"{n}" for n in shards],
        profiles=[folder / f"{translated.name}-{way}/{n}" for n in shards],
        scores=scores, method="unet", objects=way,
    )  # fmt: skip
    found = pd.read_csv(scores / "correlations.csv", keep_default_na=False,
                        na_values=[""])  # fmt: skip
    return found.set_index(["level", "category"]), pd.read_csv(scores / "retrieval.csv")


@pytest.mark.parametrize("way", ["found", "true"])
def test_the_same_stains_correlate_fully(tmp_path, way):
    config = config_of()
    write_pairs(tmp_path / "pairs")
    same = write_translated(tmp_path / "same", tmp_path / "pairs")
    found, _ = compared(tmp_path, config, same, way)
    print(found.to_string())
    assert 0
