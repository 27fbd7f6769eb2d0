"""Shards of plates in the workflow: what is freed, and what is made again."""

import pytest
import yaml
from tests.plates import PLATES, SITES, SIZE, WELLS, Gallery
from tests.server import Server
from tests.workflow.test_plan import work

from phantomscope.images.imageset import ImageSet
from phantomscope.verify import verify

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def finished(snakemake, tmp_path_factory):
    """Pairs of two shards, each of which was freed, and a call of the same run."""
    folder = tmp_path_factory.mktemp("plates")
    gallery = Gallery(folder / "bucket", sites=SITES[:1])
    with Server() as server:
        plates = {
            "kind": "gallery", "address": server.add_bucket(gallery.root),
            "plates": list(PLATES), "wells": list(WELLS), "sites": [1],
            "size": list(SIZE), "rows": 2, "columns": 2, "sites_per_well": 1,
            "shards": 2, "keep": "pairs", "ahead": 1,
            "split": {"by": "well"},
        }  # fmt: skip
        path = folder / "mine.yaml"

        def call(*arguments, **changes):
            own = {"methods": ["unet"], "size": 32, **changes}
            own["plates"] = plates | changes.get("plates", {})
            path.write_text(yaml.safe_dump({"experiment": "t", "translate": own}))
            return snakemake(
                folder, *arguments, "--configfile", path, "--", "results/t/pairs"
            )

        process = call("--cores", 2)
        assert process.returncode == 0, process.stdout + process.stderr
        yield folder / "results/t", call


def test_each_shard_frees_what_it_fetched(finished):
    results, _ = finished
    assert not list(results.glob("raw/shard-*"))
    assert not [p for p in results.glob("fields/shard-*") if p.is_dir()]
    assert not [p for p in (results.parents[1] / "data").rglob("*")
                if p.suffix in (".tiff", ".png")]  # fmt: skip
    pairs = ImageSet.open(results / "pairs")
    pairs.verify()
    assert len(pairs) == 4
    found = verify(results)
    assert found.ok, found.render()
    assert [path.name for path in found.freed] == ["shard-000", "shard-001"]


def test_what_was_freed_is_not_missed(finished):
    _, call = finished
    assert not work(call("--dry-run"))
    # How plates are handled shapes no pairs.
    assert not work(call("--dry-run", plates={"connections": 2}))
    # One shard that is made again costs itself, and no other.
    plan = work(call("--dry-run", "--forcerun", "results/t/scaled/shard-000"))
    assert plan == {"fetch_plates": 1, "acquire_plates": 1, "scale_fields": 1,
                    "pair_fields": 1}  # fmt: skip
    plan = work(call("--dry-run", boundary_width=3))
    every = {"survey_plates": 1, "fetch_plates": 2, "acquire_plates": 2,
             "scale_fields": 2, "pair_fields": 1}  # fmt: skip
    assert plan == every
    # Other shards are other blocks of sites, also those that keep their number.
    plan = work(call("--dry-run", plates={"shards": 3}))
    assert plan == every | dict.fromkeys(
        ("fetch_plates", "acquire_plates", "scale_fields"), 3
    )
