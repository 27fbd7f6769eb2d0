"""What the workflow plans for a paper, at each scale and with each preset."""

from __future__ import annotations

import re
import sys
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


@pytest.mark.parametrize(("scale", "preset", "sizes"), [
    ("smoke", "best", ["mt_1"]), ("pilot", "best", ["mt_1", "mt_3"]),
    ("paper", "paper", ["mt_1", "mt_3"]),
])  # fmt: skip
def test_structures_and_sizes_are_planned(scale, preset, sizes, snakemake, tmp_path):
    # A plan reads no table, but the pilot's must be there.
    for name in ("microtubules", "mitochondria"):
        (tmp_path / f"data/stand-ins/{name}").mkdir(parents=True)
    process = snakemake(
        tmp_path, "--dry-run", "--config", f"scale={scale}", "--", "saguy"
    )
    jobs = planned(process)
    for part in ("mt", "mito", *sizes):
        prefix = f"saguy_{preset}_{part}_"
        for rule in ("acquire", "train_diffusion", "measure_realism", "report"):
            assert jobs[prefix + rule] == 1, rule
        assert jobs[prefix + "train_segmenter"] == 0
        assert jobs[prefix + "synthesise"] == jobs[prefix + "simulate"] >= 1
    assert jobs[f"tabulate_saguy_{preset}"] == jobs[f"draw_saguy_{preset}"] == 1
    downloads = [name for name in jobs if name.endswith("_download")]
    # Parts of the same structure share what was downloaded.
    assert len(downloads) == (0 if scale == "pilot" else 2)
    assert not any("eschweiler" in name for name in jobs)
    if scale == "pilot":
        assert "no estimate of the cost" in process.stderr
        return
    assert "GPU h" in process.stderr
    total = re.search(r"^total +([\d,]+) +([\d,.]+) +([\d,.]+)", process.stderr, re.M)
    assert (float(total[3].replace(",", "")) > 100) == (scale == "paper")


# Runs a command and writes what it took. A process of its own, since the children of a
# worker are those of all its tests, and inherit how large it was.
METER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    file.write(f"{used.ru_utime + used.ru_stime} {used.ru_maxrss}")
sys.exit(code)
"""


def test_eight_plates_are_planned_with_shards_requests_and_cost(snakemake, tmp_path):
    """27,648 sites, without any network."""
    process = snakemake(
        tmp_path, "--dry-run", "--quiet", "rules", "--", "cellresdm",
        under=(sys.executable, "-c", METER, tmp_path / "used"),
    )  # fmt: skip
    jobs = planned(process)
    # Of the processor, as other tests may run beside; kB.
    seconds, memory = map(float, (tmp_path / "used").read_text().split())
    assert seconds < 90  # and not the minutes of a plan whose cost is quadratic
    assert memory < 1e6
    first = "cellresdm_paper_jump_"
    assert jobs[first + "survey_plates"] == 1
    for rule in ("fetch_plates", "acquire_plates", "scale_fields"):
        assert jobs[first + rule] == 96, rule
        # Both presets want the same pairs.
        assert jobs[f"cellresdm_best_jump_{rule}"] == 0
    for preset in ("paper", "best"):
        start = f"cellresdm_{preset}_jump_"
        assert jobs[start + "pair_fields"] == 1
        assert jobs[start + "train_translator"] == 7
        assert jobs[start + "translate"] == 7 * 50
        assert jobs[start + "evaluate_translation"] == 7 * 50
        assert jobs[start + "measure_intensities"] == 0
    table = dict(
        (found[1], [float(n.replace(",", "")) for n in found[2].split()])
        for found in re.finditer(r"^(\w+) {2,}([\d., ]+)$", process.stderr, re.M)
    )
    # Cores, GPUs, GB and hours of a job.
    assert table["train_translator"] == [1, 1, 8, 24]
    assert table["translate"][1] == 1
    assert table["fetch_plates"] == [1, 0, 2, 24]
    assert table["scale_fields"] == [1, 0, 4, 12]
    _, core_hours, gpu_hours, download, disk = table["total"]
    assert core_hours > gpu_hours > 100
    # Six channels of 1080 px at 0.89 of 16 bit.
    assert download == pytest.approx(27_648 * 6 * 1080**2 * 2 * 0.89e-9, rel=1e-3)
    # Less than all of it at a time, as shards are freed.
    assert 50 < disk < download


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
