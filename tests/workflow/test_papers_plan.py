"""What the workflow plans for a paper, at each scale and with each preset."""

from __future__ import annotations

import re
from collections import Counter

import pytest

pytestmark = pytest.mark.workflow
ORGANISMS = ("ath", "ce", "gowt1", "hela", "tric")


def planned(process) -> Counter[str]:
    """Count the jobs of each rule."""
    text = process.stdout + process.stderr
    assert process.returncode == 0, text
    table = re.search(r"Job stats:\n(.*?)^total +(\d+)$", text, re.S | re.M)
    assert table, text
    return Counter(
        {k: int(n) for k, n in re.findall(r"^(\w+) +(\d+)$", table[1], re.M)}
    )


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_every_organism_is_planned_with_its_cost(scale, snakemake, tmp_path):
    process = snakemake(
        tmp_path, "--dry-run", "--config", f"scale={scale}", "--", "eschweiler"
    )
    jobs = planned(process)
    for organism in ORGANISMS:
        prefix = f"eschweiler_{'best' if scale == 'smoke' else 'plos'}_{organism}_"
        for rule in ("download", "acquire", "train_diffusion", "measure_forward",
                     "measure_backward", "report"):  # fmt: skip
            assert jobs[prefix + rule] == 1, rule
        assert jobs[prefix + "synthesise"] == jobs[prefix + "simulate"] >= 1
    assert "GPU h" in process.stderr
    total = re.search(r"^total +([\d,]+) +([\d,.]+) +([\d,.]+)", process.stderr, re.M)
    assert total, process.stderr
    gpu_hours = float(total[3].replace(",", ""))
    assert (gpu_hours > 100) == (scale == "paper")


def test_presets_are_runs_of_their_own_that_share_downloads(snakemake, tmp_path):
    process = snakemake(
        tmp_path, "--dry-run", "--config", "scale=smoke", "presets=[arxiv,code]", "--",
        "eschweiler",
    )  # fmt: skip
    jobs = planned(process)
    for preset in ("arxiv", "code"):
        assert jobs[f"eschweiler_{preset}_hela_train_diffusion"] == 1
        assert jobs[f"tabulate_eschweiler_{preset}"] == 1
    downloads = [name for name in jobs if name.endswith("_download")]
    assert len(downloads) == len(ORGANISMS)


def test_a_config_of_a_paper_needs_no_target(root, snakemake, tmp_path):
    path = root / "config/eschweiler/smoke.yaml"
    process = snakemake(tmp_path, "--dry-run", "--configfile", path)
    assert planned(process)["tabulate_eschweiler_best"] == 1


def test_the_demo_does_not_read_the_paper(snakemake, tmp_path):
    process = snakemake(tmp_path, "--dry-run")
    assert not any("eschweiler" in name for name in planned(process))


@pytest.mark.parametrize(("options", "message"), [
    (["scale=smoke", "presets=[nope]"], "no preset 'nope'"),
    (["scale=smoke", "prests=[best]"], "did you mean `presets`"),
    (["scale=tiny"], "tiny.yaml"),
])  # fmt: skip
def test_a_bad_paper_gives_one_clear_error(options, message, snakemake, tmp_path):
    process = snakemake(tmp_path, "--dry-run", "--config", *options, "--", "eschweiler")
    assert process.returncode != 0
    assert message in process.stderr
    assert "Traceback" not in process.stderr
