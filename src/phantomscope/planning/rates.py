"""How long a unit of work takes: the rates that come with the package.

A job takes `seconds_fixed`, which is mostly the start of Python, and `seconds_per_unit`
for each unit of its work.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phantomscope.errors import PhantomscopeError, explain_os_errors

PACKAGED = Path(__file__).with_name("rates.json")


@dataclass(frozen=True)
class Rate:
    """How long a job takes.

    Attributes
    ----------
    seconds_per_unit, seconds_fixed : float
        For each unit of work, and for each job.
    measured_on : str
        Machine, or run.
    n : int
        Jobs that were measured.
    max_rss_mb : float or None
        Highest memory of these jobs in MB.
    """

    seconds_per_unit: float
    seconds_fixed: float
    measured_on: str
    n: int
    max_rss_mb: float | None = None

    def seconds(self, units: float) -> float:
        """Seconds of a job with so many units of work."""
        return self.seconds_fixed + self.seconds_per_unit * units


@dataclass(frozen=True)
class Rates:
    """Rates of each device, and how much each rule writes.

    Attributes
    ----------
    devices : Mapping
        ``cpu`` or ``cuda`` to the rates by `Work.key`.
    disk : Mapping
        Bytes per unit of `Work.stored`, by `Work.disk_key`.
    """

    devices: Mapping[str, Mapping[str, Rate]]
    disk: Mapping[str, float]

    def find(self, key: str, gpu: bool) -> tuple[Rate | None, str]:
        """Return the rate of a kind of job, and the device that it was measured on.

        For a job on a GPU that nobody measured it is that of the CPU.
        """
        for device in ("cuda", "cpu") if gpu else ("cpu",):
            if key in self.devices.get(device, {}):
                return self.devices[device][key], device
        return None, ""

    def over(self, others: Rates) -> Rates:
        """Return these rates, and those of `others` for what is not here."""
        names = dict.fromkeys([*others.devices, *self.devices])
        devices = {
            name: {**others.devices.get(name, {}), **self.devices.get(name, {})}
            for name in names
        }
        return Rates(devices, {**others.disk, **self.disk})

    def plain(self) -> dict[str, Any]:
        """Return the content of a file of rates."""
        return {
            **{
                device: {key: asdict(rate) for key, rate in sorted(rates.items())}
                for device, rates in self.devices.items()
            },
            "disk": dict(sorted(self.disk.items())),
        }


def load_rates(path: Path = PACKAGED) -> Rates:
    """Read a file of rates; by default those that come with the package."""
    try:
        with explain_os_errors(path):
            content = json.loads(path.read_text(encoding="utf-8"))
        disk = {str(key): float(value) for key, value in content.pop("disk").items()}
        devices = {
            device: {key: Rate(**fields) for key, fields in rates.items()}
            for device, rates in content.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PhantomscopeError(
            f"this is no file of rates ({type(error).__name__}: {error})",
            where=path,
            fix="install the package again",
        ) from error
    return Rates(devices, disk)


@functools.cache
def packaged_rates() -> Rates:
    """Return the rates that come with the package."""
    return load_rates()
