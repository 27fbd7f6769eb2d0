"""Image sets, tiles, normalisation and the noise field."""
