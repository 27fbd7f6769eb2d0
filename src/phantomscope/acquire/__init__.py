"""Sources of images, each made into an image set."""
