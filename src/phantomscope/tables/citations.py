"""What a report cites, by what the experiment does."""

from __future__ import annotations

from phantomscope.config.model import Config

SKETCH_CITATIONS = {
    "Sketches to annotated images": "Eschweiler D. et al. Denoising diffusion "
    "probabilistic models for generation of realistic fully-annotated microscopy image "
    "datasets. PLOS Computational Biology 20, e1011890 (2024).",
    "Diffusion": "Ho J., Jain A., Abbeel P. Denoising diffusion probabilistic models. "
    "NeurIPS (2020).",
    "DDIM sampler": "Song J., Meng C., Ermon S. Denoising diffusion implicit models. "
    "ICLR (2021).",
    "Cellpose": "Stringer C. et al. Cellpose: a generalist algorithm for cellular "
    "segmentation. Nature Methods 18, 100-106 (2021).",
    "StarDist": "Schmidt U. et al. Cell detection with star-convex polygons. MICCAI "
    "(2018).",
    "Otsu's threshold": "Otsu N. A threshold selection method from gray-level "
    "histograms. IEEE Transactions on Systems, Man, and Cybernetics 9, 62-66 (1979).",
    "Panoptic quality": "Kirillov A. et al. Panoptic segmentation. CVPR (2019).",
    "SEG": "Maška M. et al. A benchmark for comparison of cell tracking algorithms. "
    "Bioinformatics 30, 1609-1617 (2014).",
    "Workflow": "Mölder F. et al. Sustainable data analysis with Snakemake. "
    "F1000Research 10, 33 (2021).",
}  # fmt: skip
# Of restoration, where there is any.
CARE_CITATIONS = {
    "CARE": "Weigert M. et al. Content-aware image restoration: pushing the limits of "
    "fluorescence microscopy. Nature Methods 15, 1090-1097 (2018).",
    "Restoration by synthetic images": "Saguy A. et al. This microtubule does not "
    "exist: super-resolution microscopy image generation by a diffusion model. Small "
    "Methods (2024).",
    "Fourier ring correlation": "Saxton W. O., Baumeister W. The correlation averaging "
    "of a regularly arranged bacterial cell envelope protein. Journal of Microscopy "
    "127, 127-138 (1982).",
}
# Of translation, where there is any.
TRANSLATION_CITATIONS = {
    "CellResDM": "Xing X. et al. CellResDM: residual diffusion from brightfield to "
    "Cell Painting.",
    "Residual shift": "Yue Z. et al. ResShift: efficient diffusion model for image "
    "super-resolution by residual shifting. NeurIPS (2023).",
    "VQ-GAN": "Esser P. et al. Taming transformers for high-resolution image "
    "synthesis. CVPR (2021).",
    "Pix2Pix": "Isola P. et al. Image-to-image translation with conditional "
    "adversarial networks. CVPR (2017).",
    "SPADE": "Park T. et al. Semantic image synthesis with spatially-adaptive "
    "normalization. CVPR (2019).",
    "Palette": "Saharia C. et al. Palette: image-to-image diffusion models. SIGGRAPH "
    "(2022).",
}
# Of semantic filtering, where there is any.
FILTER_CITATIONS = {
    "Semantic filtering": "Javer A., Rittscher J. Semantic filtering through deep "
    "source separation on microscopy images. arXiv 1909.00691 (2019).",
    "Noise2Noise": "Lehtinen J. et al. Noise2Noise: learning image restoration without "
    "clean data. ICML (2018).",
    "Z'": "Zhang J.-H., Chung T., Oldenburg K. A simple statistical parameter for use "
    "in evaluation and validation of high throughput screening assays. Journal of "
    "Biomolecular Screening 4, 67-73 (1999).",
}
# The rivals of filtering.
RIVAL_CITATIONS = {
    "stardist": SKETCH_CITATIONS["StarDist"],
    "cellpose": SKETCH_CITATIONS["Cellpose"],
    "faster_rcnn": "Ren S. et al. Faster R-CNN: towards real-time object detection "
    "with region proposal networks. NeurIPS (2015).",
    "retinanet": "Lin T.-Y. et al. Focal loss for dense object detection. ICCV (2017).",
}


def citations(config: Config, *, restored: bool) -> dict[str, str]:
    """Return what to cite, by what it is cited for."""
    if config.translate.methods:
        return TRANSLATION_CITATIONS
    if config.filter.methods:
        rivals = [str(m) for m in config.filter.methods if m in RIVAL_CITATIONS]
        names = {"faster_rcnn": "Faster R-CNN", "retinanet": "RetinaNet",
                 "stardist": "StarDist", "cellpose": "Cellpose"}  # fmt: skip
        found = {names[name]: RIVAL_CITATIONS[name] for name in rivals}
        return FILTER_CITATIONS | found | {"Workflow": SKETCH_CITATIONS["Workflow"]}
    return {**SKETCH_CITATIONS, **(CARE_CITATIONS if restored else {})}
