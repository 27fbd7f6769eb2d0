"""The paper at smoke scale, from archives in the publishers' layout to its tables."""

import pandas as pd
import pytest
import yaml
from tests.ctc_archives import ARCHIVES, examples, write_archives
from tests.server import serve

from phantomscope.images.imageset import ImageSet
from phantomscope.verify import verify

pytestmark = pytest.mark.end_to_end
PARTS = ("ce", "gowt1")


@pytest.fixture(scope="module")
def finished(root, snakemake, tmp_path_factory):
    """One organism in 2D and one in 3D, downloaded from a server on this machine."""
    folder = tmp_path_factory.mktemp("eschweiler")
    made = {name: series for name, series in examples().items()
            if name.removeprefix("ctc_") in PARTS}  # fmt: skip
    archives = folder / "archives"
    archives.mkdir()
    write_archives(archives, made)
    options = yaml.safe_load((root / "config/eschweiler/smoke.yaml").read_text())
    options["parts"] = {name: options["parts"][name] for name in PARTS}
    with serve(archives, ARCHIVES) as registry:
        options["common"]["source"] = {"registry": str(registry)}
        path = folder / "smoke.yaml"
        path.write_text(yaml.safe_dump(options))
        process = snakemake(folder, "--cores", 2, "--configfile", path, "--",
                            "eschweiler")  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "results/eschweiler"


def test_all_published_values_are_in_the_tables(finished):
    for name, count in (("fig2", 48), ("fig3", 12), ("sec4", 2)):
        table = pd.read_csv(finished / f"tables/{name}.csv")
        published = table["id"].astype(str).str.fullmatch(r"e\d\d\d")
        assert published.sum() == count
        assert (finished / f"tables/{name}.md").read_text().startswith("|")


def test_every_row_of_ours_says_what_it_was_measured_on(finished):
    table = pd.read_csv(finished / "tables/fig3.csv")
    own = table[table["value"].notna()] if "value" in table else table
    assert len(own)
    kinds = [name for name in table.columns if "data_kind" in name]
    assert kinds
    text = (finished / "tables/fig3.md").read_text()
    assert "simulated" in text
    assert "not run" in text  # organisms that were left out


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_whole_experiments(part, finished):
    results = finished / "best" / part
    assert (results / "report.html").stat().st_size > 10_000
    synthetic = ImageSet.open(results / "checked")
    assert synthetic.dims == (3 if part == "ce" else 2)
    synthetic.verify()
    scores = pd.read_csv(results / "tables/segmentation.csv")
    assert set(scores["data_kind"]) == {"simulated"}
    report = verify(results)
    assert report.ok, report.render()


def test_evaluation_is_of_the_other_sequence(finished):
    for part in PARTS:
        prepared = ImageSet.open(finished / "best" / part / "prepared")
        groups = prepared.table.groupby("split")["group"].unique()
        assert set(groups["train"]) == {"01"}
        assert set(groups["test"]) == {"02"}


@pytest.mark.parametrize("figure", ["fig1", "fig2", "fig3", "fig5", "fig6"])
def test_figures_are_drawn(figure, finished):
    assert (finished / f"figures/{figure}.png").stat().st_size > 5_000
