"""The stages of semantic filtering: crops, composed sets, training, filtered images."""

from __future__ import annotations

from phantomscope.acquire.folds import tested_images, training_images

__all__ = ["tested_images", "training_images"]
