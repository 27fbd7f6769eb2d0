"""Where things lie in the Cell Painting Gallery."""

from __future__ import annotations

from dataclasses import dataclass

from phantomscope.acquire.plates.harmony import INDEX
from phantomscope.acquire.plates.sites import Site
from phantomscope.config.plates import Plates, barcode_of


@dataclass(frozen=True)
class Keys:
    """Keys of folders, all with a slash at the end, and of single files.

    Raw images lie under the full name of a plate, all else under its short one.
    """

    options: Plates

    @property
    def _workspace(self) -> str:
        return f"{self.options.project}/workspace"

    @property
    def batch(self) -> str:
        """Folder of the plates' images."""
        return f"{self.options.project}/images/{self.options.batch}/images/"

    @property
    def plate_maps(self) -> str:
        """Folder of what is in the wells."""
        return f"{self._workspace}/metadata/platemaps/{self.options.batch}/"

    def images(self, plate: str) -> str:
        """Folder of the images of a plate."""
        return f"{self.batch}{plate}/Images/"

    def index(self, plate: str) -> str:
        """Index of the microscope."""
        return f"{self.images(plate)}{INDEX}"

    def load_data(self, plate: str) -> str:
        """Folder of CellProfiler's table of files."""
        batch = self.options.batch
        return f"{self._workspace}/load_data_csv/{batch}/{barcode_of(plate)}/"

    def flat_fields(self, plate: str) -> str:
        """Beginning of the names of illumination functions."""
        batch, barcode = self.options.batch, barcode_of(plate)
        return f"{self.options.project}/images/{batch}/illum/{barcode}/{barcode}_Illum"

    def analysis(self, plate: str) -> str:
        """Folder of CellProfiler's results, in which each site or well has one."""
        batch = self.options.batch
        return f"{self._workspace}/analysis/{batch}/{barcode_of(plate)}/analysis/"

    def outline_folder(self, site: Site, folders: set[str]) -> str:
        """Folder of the outlines of a site; empty if it is none of `folders`."""
        start = self.analysis(site.plate)
        for template in self.options.outline_folders:
            name = template.format(plate=site.barcode, well=site.well, site=site.site)
            if f"{start}{name}" in folders:
                return f"{start}{name}/outlines/"
        return ""
