"""What the numbers of semantic filtering are called, and what they mean."""

from __future__ import annotations

import math

from phantomscope.config.filtering import Filter

TITLES = {
    "filter": "filter (one layer)", "layers": "filter (all layers)",
    "median": "median of frames", "stardist": "StarDist", "cellpose": "Cellpose",
    "faster_rcnn": "Faster R-CNN", "retinanet": "RetinaNet",
    "input": "image as it is", "empty": "empty layer",
}  # fmt: skip
# The methods that are ours, the first against every rival.
OURS = ("filter", "layers")
SCORES = ("precision", "recall", "f1")
# Of label images there is more to say.
INSTANCE_SCORES = (*SCORES, "ap", "pq")
BY_FOLD, BY_IMAGE, RATIO = "_by_fold", "_by_image", "_ratio"
CONTROLS = {
    "z_prime": "Z' of the controls, 1 - 3 (s_p + s_n) / |m_p - m_n|, of the number of "
    "objects in each well; population standard deviations; wells are drawn anew. The "
    "paper counted with another network than the one that it scored.",
    "p_student_t": "p-value of a two-sided t-test between the controls, equal "
    "variances, over wells.",
    "p_welch_t": "The same without equal variances.",
    "control_difference": "Mean number of objects in a well of the positive control "
    "minus that of the negative one.",
}
_RULES = {
    "points_published": "Objects against points: a point counts as found if an object "
    "lies there, so that two points in one object count twice (the released code); "
    "false are the objects less these points",
    "points_one_to_one": "Objects against points: of the points in an object one is "
    "found, the others are missed",
    "points_within": "Centres of objects against points, one to one within a distance",
    "boxes": "Boxes one to one",
    "instances": "Objects one to one",
}
_SCORES = {
    "precision": "tp / (tp + fp)", "recall": "tp / (tp + fn)",
    "f1": "2 tp / (2 tp + fp + fn)", "ap": "tp / (tp + fp + fn)",
    "pq": "summed IoU / (tp + fp/2 + fn/2)",
}  # fmt: skip
_AVERAGES = {
    "": "; counts pooled over images (and folds).",
    BY_FOLD: "; mean over the folds of what each fold pools.",
    RATIO: "; pooled, ours by that of a rival on the same images.",
}
MASKS = {
    "mask_iou": "Pixels of the found objects against those of the true ones: "
    "intersections of all images by their unions.",
    "mask_iou_by_image": "The same, mean over images.",
    "removed_iou": "Intersection over union, pooled over images, of the true mask with "
    "all pixels that became lighter by more than a step, whatever their area. The "
    "paper's mean IoU takes a step of 10 of 255; for the same networks its code notes "
    "other values, of another threshold or truth.",
    "layer_psnr": "Peak signal-to-noise ratio of a layer against the true one, dB, "
    "intensities from 0 to 1; mean over images.",
    "layer_ssim": "Structural similarity of a layer with the true one; mean over "
    "images.",
    "f1_observers_low": "F1 of one person's marks by those of another, lowest.",
    "f1_observers_high": "The same, highest.",
    "n_crops": "Crops of the class that were cut out.",
}


def rule_key(rule: str, threshold: float) -> str:
    """Return how a rule is called in metrics: of boxes and instances with the IoU."""
    if rule in ("boxes", "instances"):
        return f"{rule}_{threshold:.2f}"
    return rule


def main_rule(options: Filter) -> str:
    """Return the rule by which methods are compared; IoU 0.5 if it is there.

    Of points it is one to one: the paper's rule counts two points in one object twice.
    """
    rule = {"points": "points_one_to_one", "layers": "instances"}.get(
        options.truth, "boxes"
    )
    iou = 0.5 if 0.5 in options.iou else max(options.iou)
    return rule_key(rule, math.nan if options.truth == "points" else iou)


def define(metric: str) -> str:
    """Return what a metric of semantic filtering means; empty of any other.

    Examples
    --------
    >>> define("f1_boxes_0.50")[:36]
    'F1, 2 tp / (2 tp + fp + fn). Boxes o'
    """
    known = {**CONTROLS, **MASKS}.get(metric)
    if known:
        return known
    name, _, rest = metric.partition("_")
    average = next((a for a in (BY_FOLD, RATIO) if rest.endswith(a)), "")
    key = rest.removesuffix(average)
    rule = key if key in _RULES else key.rpartition("_")[0]
    if name not in _SCORES or rule not in _RULES:
        return ""
    at = "" if rule == key else f" at an IoU of {key.rpartition('_')[2]}"
    title = name.upper() if name in ("f1", "ap", "pq") else name.capitalize()
    return f"{title}, {_SCORES[name]}. {_RULES[rule]}{at}{_AVERAGES[average]}"
