"""The stages of semantic filtering before its tests: crops, sets of them, training."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.acquire.folds import (
    COMPOSED,
    held_out,
    tested_images,
    training_images,
)
from phantomscope.config.datasets import suggestion
from phantomscope.config.filtering import FILTERS
from phantomscope.config.model import Config
from phantomscope.engine.layers import (
    LAYERS,
    ComposedLayers,
    ComposedPairs,
    FramePairs,
    Separating,
    steady_light,
)
from phantomscope.engine.networks import make_network
from phantomscope.engine.pairs import to_stored
from phantomscope.engine.precision import pick_device
from phantomscope.engine.process import make_process
from phantomscope.engine.train import Trainer
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import check_targets, write_text
from phantomscope.images.imageset import ImageSet, count_channels
from phantomscope.images.light import Light
from phantomscope.images.noise import derive_key
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure import found as measured
from phantomscope.progress import Progress
from phantomscope.simulate.compose import (
    Composed,
    Compositor,
    pack_backgrounds,
    pack_crops,
)
from phantomscope.simulate.crops import (
    choose_crops,
    extract_crops,
    hash_of,
    read_pairs,
    read_veto,
)
from phantomscope.stages.arguments import Output, Place
from phantomscope.stages.diffusion import NO_IDENTITY

__all__ = [
    "compose_set", "cut_crops", "tested_images", "train_filter", "training_images",
]  # fmt: skip

Float = NDArray[np.float32]
OBJECTS = "objects.csv"


def light_of(config: Config) -> Light:
    """Return what intensities mean in an experiment."""
    return measured.light_of(config.filter)


def class_of(config: Config, target: str) -> str:
    """Return the class that a target names.

    Raises
    ------
    PhantomscopeError
        If `filter.targets` does not have it.
    """
    if target in config.filter.targets:
        return target
    raise PhantomscopeError(
        f"there is no target {target!r}",
        where="filter.targets",
        fix=suggestion(target, config.filter.targets),
    )


def _gray(images: ImageSet) -> ImageSet:
    """Return the images if they have one channel."""
    for identifier in images.ids:
        if (count := count_channels(images.row(identifier))) > 1:
            raise PhantomscopeError(
                f"the image {identifier!r} has {count} channels, layers are of one",
                where=images.folder / "manifest.csv",
                fix="choose one with `source.channel`",
            )
    return images


def cut_crops(
    config: Config, *, prepared: Path, crops: Output, backgrounds: Output,
    sheet: Output,
) -> None:  # fmt: skip
    """Cut the objects out of all images, and show them on a contact sheet."""
    from phantomscope.tables.figures_layers import plot_contact_sheet

    options, images = config.filter, _gray(ImageSet.open(prepared))
    check_targets(crops, backgrounds, sheet)
    extract_crops(images, crops, backgrounds, options.crops, config.seed)
    found = ImageSet.open(crops)
    for target in options.targets:
        choose_crops(found, target)
    dropped = read_veto(Path(options.veto), found) if options.veto else set()
    plot_contact_sheet(found, sheet, frozenset(dropped))


def make_compositor(
    config: Config, crops: ImageSet, backgrounds: ImageSet, target: str,
    parents: Collection[str], seed: int,
) -> tuple[Compositor, tuple[ImageSet, ImageSet]]:  # fmt: skip
    """Get the crops and backgrounds of some images ready to be composed.

    Parameters
    ----------
    config : Config
        `filter.compose`, `filter.scale` and `filter.veto`.
    crops, backgrounds : ImageSet
        Of `cut_crops`.
    target : str
        Class of the target layer; all others are the other one.
    parents : collection of str
        Ids of the images.
    seed : int
        Decides what is composed.

    Returns
    -------
    Compositor
        Of these crops alone.
    tuple of ImageSet
        Crops of the target and of the other layer, in the order of their numbers.

    Raises
    ------
    PhantomscopeError
        If there is no such class, or a layer has no crop.
    """
    options, light = config.filter, light_of(config)
    veto = Path(options.veto) if options.veto else None
    chosen = [
        choose_crops(crops, target, parents, veto, but=but) for but in (False, True)
    ]
    if options.compose.others[1] and not len(chosen[1]):
        raise PhantomscopeError(
            f"all crops of these {len(parents)} images are of the class {target!r}: "
            "there is nothing to tell it from",
            where=crops.folder,
            fix="cut crops of two classes (`filter.crops`), or compose none of the "
            "other layer",
            example="compose:\n  others: [0, 0]",
        )
    keep = backgrounds.table["id"].isin(list(parents))
    grounds = ImageSet(backgrounds.folder, backgrounds.table[keep], backgrounds.info)
    packed = [pack_crops(read_pairs(c, light.scale), options.compose) for c in chosen]
    ground = pack_backgrounds(read_pairs(grounds, light.scale))
    made = Compositor(packed[0], packed[1], ground, options.compose, seed)
    return made, (chosen[0], chosen[1])


def compose_set(
    config: Config, *, crops: Path, backgrounds: Path, composed: Output, target: str,
    fold: int, use: str, images: str = "all",
) -> None:  # fmt: skip
    """Compose images whose layers are known: for tests, or to teach rivals.

    `images` is of how many training images crops are taken to teach.
    """
    if use not in ("taught", "tests"):
        raise PhantomscopeError(
            f"images are composed as `tests` or are `taught`, not {use!r}",
            where="--use", fix="give one of these two",
        )  # fmt: skip
    options, kind, tests = config.filter, class_of(config, target), use == "tests"
    cut, behind = ImageSet.open(crops), ImageSet.open(backgrounds)
    side = (
        held_out(config, behind, fold) if tests
        else training_images(config, behind, fold, images)
    )  # fmt: skip
    seed = derive_key(config.seed, "composed", kind, fold, use) >> 1
    compositor, sources = make_compositor(config, cut, behind, kind, side.ids, seed)
    names = [source.ids for source in sources]
    parents = [list(source.table["parent"]) for source in sources]
    info = {
        "source": COMPOSED, "use": use, "target": kind, "fold": fold, "number": images,
        "layers": ["image", "target", "other", "background"],
        "labels": "target" if tests else "all", "parents": side.ids,
        "scale": options.scale.model_dump(mode="json"), **compositor.identity,
    }  # fmt: skip
    count, rows = options.tests if tests else options.taught, []
    light = light_of(config)
    with (
        ImageSetWriter(composed, info, resume=False) as writer,
        Progress("composing", count, unit="images") as progress,
    ):
        for number in range(count):
            made, name = compositor.pair(number)[0], f"{use}-{number:05d}"
            labels = _labels(made, tests)
            layers = light.layers_to_unit(
                np.stack([made.target, made.other, made.background])
            )
            stored = to_stored(2 * np.stack([made.image, *layers]) - 1)
            writer.add(
                name, stored, labels["target"],
                others=labels["other"] if tests else None, channels=len(stored),
                split="test" if tests else "train", fold=fold,
            )  # fmt: skip
            rows += _object_rows(name, made, labels, names, parents)
            progress.advance()
        table = pd.DataFrame(rows, columns=list(_COLUMNS))
        write_text(writer.partial / OBJECTS, table.to_csv(index=False))


_COLUMNS = (
    "id", "label", "type", "crop", "parent", "y", "x", "height", "width", "area",
)  # fmt: skip


def _labels(made: Composed, apart: bool) -> dict[str, NDArray[np.uint16]]:
    """Return the labels of either layer; if they are not apart, as one image."""
    if apart:
        return {"target": made.target_labels, "other": made.other_labels}
    first = int(made.target_labels.max())
    others = np.where(made.other_labels > 0, made.other_labels + first, 0)
    # As `blend` has it, targets lie on top.
    all_of_them = np.where(made.target_labels > 0, made.target_labels, others)
    return dict.fromkeys(("target", "other"), all_of_them.astype(np.uint16))


def _object_rows(
    name: str, made: Composed, labels: dict[str, NDArray[np.uint16]],
    names: list[list[str]], parents: list[list[str]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return a row for each object that is seen; what others hide is no object."""
    rows, one = [], labels["target"] is labels["other"]
    first = int(made.target_labels.max()) if one else 0
    areas = {layer: np.bincount(np.ravel(image)) for layer, image in labels.items()}
    for row in made.placed.to_dict("records"):
        which = 0 if row["layer"] == "target" else 1
        label, area = int(row["label"]) + which * first, areas[row["layer"]]
        if label < len(area) and area[label]:
            rows.append({
                "id": name, "label": label, "type": row["layer"],
                "crop": names[which][row["crop"]],
                "parent": parents[which][row["crop"]], "area": int(area[label]),
                **{c: row[c] for c in ("y", "x", "height", "width")},
            })  # fmt: skip
    return rows


def _check_options(config: Config) -> None:
    """Refuse what training would not heed, and sides that its network cannot take."""
    config.check_filter(tiles=False)
    for where, wrong in (
        ("network.noise_channel", config.network.noise_channel),
        ("train.adversarial", config.train.adversarial > 0),
        ("train.weighting", config.train.weighting != "uniform"),
    ):
        if wrong:
            raise PhantomscopeError(
                "this is of no use to semantic filtering, which has one step and no "
                "noise",
                where=where,
                fix="leave it out",
            )


def composing_threads(config: Config) -> int:
    """Threads that compose: with a GPU all cores of the job, since it waits for them.

    On a CPU they would take them from the network.
    """
    if pick_device(config.train.device).type == "cpu":
        return config.train.threads
    cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return max(len(cores(0)), config.train.threads)


def _composed_source(
    config: Config, own: Config, prepared: ImageSet, crops: Path | None,
    backgrounds: Path | None, kind: str, method: str, images: str, fold: int, seed: int,
) -> tuple[ComposedPairs | ComposedLayers, dict[str, Any], float | None]:  # fmt: skip
    """Return composed training images, what they are made of, and their light."""
    if crops is None or backgrounds is None:
        raise PhantomscopeError(
            "composed pairs need crops and backgrounds",
            where="--crops / --backgrounds",
            fix="give what `cut-crops` wrote, or use `filter.pairs: video`",
        )
    cut, behind = ImageSet.open(crops), ImageSet.open(backgrounds)
    if cut.info.get("images") != hash_of(prepared):
        raise PhantomscopeError(
            "these crops were cut out of other images",
            where=crops,
            fix="run `cut-crops` again, on the images that are given",
        )
    side = training_images(config, behind, fold, images)
    compositor, _ = make_compositor(config, cut, behind, kind, side.ids, seed)
    light, epoch = light_of(config), config.filter.epoch
    threads = composing_threads(own)
    made = {"compositor": compositor.identity, "epoch": epoch}
    if method == "layers":
        return ComposedLayers(compositor, light, epoch, threads), made, None
    level = steady_light(compositor, light, own.train.loss)
    return ComposedPairs(compositor, epoch, threads), made, level


def train_filter(
    config: Config, *, prepared: Path, crops: Path | None = None,
    backgrounds: Path | None = None, model: Output, metrics: Output, state: Place,
    target: str, method: str, images: str = "all", fold: int = 0, seed: int = 0,
) -> None:  # fmt: skip
    """Train a network to tell one class of objects, or all layers, from the rest."""
    check_targets(model, metrics)
    kind, options = class_of(config, target), config.filter
    check_method(method)
    _check_options(config)
    own = config.of_filter
    found, number = _gray(ImageSet.open(prepared)), own.seed + seed
    level: float | None = None
    source: ComposedPairs | ComposedLayers | FramePairs
    if options.pairs == "video":
        seen = training_images(config, found, fold, images)
        source = FramePairs(
            seen, options.lag, light_of(config), own.train.patch_shape(2), number,
            augment=own.train.augment, symmetries=own.train.symmetries,
        )  # fmt: skip
        made = {"frames": list(seen.table["sha256"]), "lag": options.lag}
    else:
        source, made, level = _composed_source(
            config, own, found, crops, backgrounds, kind, method, images, fold, number
        )
    layered = method == "layers"
    channels, light = LAYERS if layered else 1, light_of(config)
    process = make_process(own.process)
    shape = own.model_dump(include={"network", "process"})
    about = {
        **shape, "channels": channels, "conditions": 0, "dims": 2, "method": method,
        "target": kind, "share": options.compose.share, "mode": light.mode,
        "log_limits": light.log_limits and list(light.log_limits), "level": level,
        "value_range": [-1.0, 1.0], "seed": number,
    }  # fmt: skip
    trainer = Trainer(
        make_network(own.network, number, channels=channels, timesteps=1),
        process, source.batch, own.train, seed=number,
        noise_channel=own.network.noise_channel, state=state,
        objective=Separating(
            own.train.loss, light if layered else None, options.consistency
        ),
        identity={
            **about, **made, "train": own.train.model_dump(exclude=NO_IDENTITY),
            "divisor": light.divisor,
            "consistency": options.consistency if layered else None,
        },
    )  # fmt: skip
    trainer.train()
    write_text(metrics, trainer.metrics_file.read_text())
    trainer.save_model(model, about)


def check_method(method: str) -> None:
    """Raise an error unless a method is one whose networks are trained here."""
    if method not in FILTERS:
        raise PhantomscopeError(
            f"`{method}` is no method that is trained here",
            where="--method",
            fix=suggestion(method, list(FILTERS)),
        )
