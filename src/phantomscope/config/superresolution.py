"""Options of simulated super-resolution: labels, blinking, localisation, optics.

Lengths are in nm, light in photons.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phantomscope.config.option import Section, option

Photons = Annotated[float, Field(gt=0, le=1e9)]
Ratio = Annotated[float, Field(gt=0, le=1000)]
Formula = Literal["thompson", "mortensen", "rieger"]


class Labelling(Section):
    """Fluorophores on the surface of tubes and filaments."""

    density: float = option(
        100.0,
        "Mean number of fluorophores per length (Poisson).",
        unit="1 / um",
        ge=0,
        le=10_000,
    )
    linker: float = option(
        12.0,
        "Distance of a fluorophore from the surface: its antibodies. Primary and "
        "secondary ones measure about 12 nm here.",
        unit="nm",
        ge=0,
        le=200,
    )
    linker_spread: float = option(
        3.0, "Standard deviation of `linker`.", unit="nm", ge=0, le=100
    )


class Blinking(Section):
    """What fluorophores and camera make of a movie, and what is then localised."""

    frames: int = option(10_000, "Length of the movie.", ge=1, le=10_000_000)
    activation: float | None = option(
        None,
        "Mean time until a fluorophore first lights up (exponential); those later "
        "than the movie are lost. Empty: evenly over the movie.",
        unit="frames",
        gt=0,
    )
    blinks: float = option(
        2.0,
        "Mean number of times a fluorophore lights up before it bleaches (geometric).",
        ge=1,
        le=1000,
    )
    lit: float = option(
        1.5, "Mean time that it is lit (geometric).", unit="frames", ge=1, le=1000
    )
    dark: float = option(
        20.0,
        "Mean time between (geometric).",
        unit="frames",
        ge=1,
        le=1e6,
    )
    photons: Photons = option(1500.0, "Mean photons of a localisation.", unit="photons")
    photon_distribution: Literal["exponential", "lognormal"] = option(
        "lognormal", "Distribution of the photons of a localisation."
    )
    photon_spread: float = option(
        0.6,
        "Standard deviation of the logarithm of the photons, if lognormal.",
        ge=0,
        le=3,
    )
    least_photons: float = option(
        100.0,
        "Dimmer ones are not localised.",
        unit="photons",
        ge=0,
    )
    psf_sigma: float = option(
        130.0,
        "Standard deviation of the spot of a fluorophore.",
        unit="nm",
        gt=10,
        le=5000,
    )
    pixel: float = option(
        108.0, "Side of a pixel of the camera.", unit="nm", gt=1, le=5000, paper="108"
    )
    background: float = option(
        20.0,
        "Mean background per pixel and frame, with the variance of the read noise.",
        unit="photons",
        ge=0,
        le=1e6,
    )
    excess: float = option(
        1.0,
        "Factor of the noise variance: 1, or 2 of a camera with electron "
        "multiplication.",
        ge=1,
        le=4,
    )
    formula: Formula = option(
        "mortensen",
        "How precision follows from photons: Thompson et al. 2002 (a quarter too good "
        "for least squares), Mortensen et al. 2010 (least squares), or Rieger & "
        "Stallinga 2014 (maximum likelihood).",
    )
    false_density: float = option(
        2.0,
        "False localisations per area, over the whole movie.",
        unit="1 / um^2",
        ge=0,
        le=1e5,
    )
    false_photons: Photons = option(
        400.0, "Mean photons of a false localisation (exponential).", unit="photons"
    )


class Optics(Section):
    """From a structure or a super-resolution image to a widefield image."""

    psf: Literal["gaussian", "airy", "gibson_lanni"] = option(
        "gaussian",
        "Spot of a point in focus: a Gaussian, the Airy pattern of an ideal lens, or "
        "the model of Gibson & Lanni, for which `pip install psfmodels` is needed.",
        paper="gaussian",
    )
    wavelength: float = option(
        668.0, "Of the emission.", unit="nm", ge=200, le=2000, paper="unstated"
    )
    aperture: float = option(
        1.49, "Numerical aperture.", gt=0.05, le=1.7, paper="unstated"
    )
    sigma: float | None = option(
        None,
        "Standard deviation of the Gaussian; empty: 0.21 wavelength / aperture.",
        unit="nm",
        gt=1,
        le=5000,
        paper="unstated",
    )
    binning: int = option(
        1,
        "Pixels of the super-resolution image, along y and x, per pixel of the camera.",
        ge=1,
        le=64,
        paper="1 (restored on the grid of the super-resolution image)",
    )
    photons: tuple[Photons, Photons] = option(
        (50.0, 500.0),
        "Least and largest mean number of photons of the structure in its brightest "
        "pixel of the camera; each image draws one.",
        unit="photons",
        paper="unstated",
    )
    background: float = option(
        5.0, "Even background per pixel.", unit="photons", ge=0, le=1e6
    )
    perlin: tuple[float, float] = option(
        (0.0, 0.2),
        "Least and largest amplitude of the uneven background (Perlin noise from 0 to "
        "this), relative to `photons`; each image draws one.",
        paper="unstated",
    )
    perlin_scale: float = option(
        1728.0,
        "Period of its coarsest octave.",
        unit="nm",
        gt=1,
        le=1e7,
        paper="unstated",
    )
    perlin_octaves: int = option(
        4,
        "Octaves, each of half the period and amplitude.",
        ge=1,
        le=12,
        paper="unstated",
    )
    read_noise: float = option(
        2.0,
        "Standard deviation of the camera in the dark.",
        unit="electrons",
        ge=0,
        le=1000,
        paper="unstated",
    )
    gain: float = option(
        1.0, "Counts per electron.", unit="counts / electron", gt=0, le=1000
    )
    offset: float = option(100.0, "Counts in the dark.", unit="counts", ge=0, le=60_000)
    snr: tuple[Ratio, Ratio] | None = option(
        None,
        "Least and largest signal-to-noise ratio, of which each image draws one in "
        "place of `photons`, so that arms of an experiment match: mean signal of the "
        "brightest tenth of the pixels by the standard deviation of their noise.",
        paper="matched, numbers unstated",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.photons[0] > self.photons[1]:
            raise ValueError("`photons` needs [least, largest], such as [50, 500]")
        if self.snr is not None and self.snr[0] > self.snr[1]:
            raise ValueError("`snr` needs [least, largest], such as [5, 15]")
        if not 0 <= self.perlin[0] <= self.perlin[1] <= 10:
            raise ValueError("`perlin` needs [least, largest], such as [0, 0.2]")
        return self
