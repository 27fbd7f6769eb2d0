"""`python -m benchmarks [AREA ...]`: measure, print, and store under benchmarks/."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks import (
    bad_inputs,
    boundaries,
    compose,
    engine_speed,
    faults,
    frc,
    houses,
    invariance,
    layers,
    memorisation,
    papers,
    peer_pipelines,
    peers,
    quality,
    quality_ap50,
    rates,
    rendering,
    resume,
    scale,
    seams,
    simulators,
    slurm,
    synthesis,
    unconditional,
    volumes,
)
from benchmarks.laboratory import ROOT, Laboratory, run
from benchmarks.table import Row, load, save
from phantomscope.images.files import write_text

DEFAULT = ROOT / "config/default.yaml"


def laboratory(folder: Path) -> tuple[Laboratory, str]:
    """Return the demo's trained model if it is there, else a small one."""
    results = ROOT / "results/demo"
    if (results / "diffusion/model.pt").exists() and (results / "start.json").exists():
        return Laboratory.of_experiment(results, DEFAULT), "model of the demo"
    lab = Laboratory(folder / "lab")
    lab.prepare()
    lab.train()
    return lab, "small model, 60 steps"


def _ratio(table: pd.DataFrame, against: str) -> pd.Series:
    """Row of the table with AP50 of the better synthetic tool over another method."""
    chosen = table[
        (table["metric"] == f"ap_0.50 synthetic/{against}")
        & (table["seed"] == "all")
        & table["condition"].str.contains("better tool")
    ]
    return chosen.iloc[0]


def _segmentation(area: str, results: Path, command: str) -> list[Row]:
    table = pd.read_csv(results / "tables/segmentation.csv", dtype={"seed": str})
    goals = {"annotated": ">= 1", "classical": "> 1"}
    if area == "dsb2018":
        goals = {"annotated": ">= 0.95", "classical": "> 1"}
    rows = []
    for name, goal in goals.items():
        found = _ratio(table, {"classical": "otsu_watershed"}.get(name, name))
        interval = f"95% CI {found['ci_low']:.3f} to {found['ci_high']:.3f}"
        rows.append(
            Row(
                f"{area}.ap50_synthetic_over_{name}",
                f"AP50, {found['condition']} ({interval}, "
                f"{found['n']} x {found['unit_of_n']})",
                "real held-out images",
                float(found["value"]),
                "",
                goal,
                command,
            )
        )
    return rows


def wall_minutes(results: Path) -> float:
    """Minutes from the start of the first job to the end of the last.

    Snakemake writes a job's benchmark file when the job ends.
    """
    ends, begins = [], []
    for path in (results / "benchmarks").rglob("*.tsv"):
        seconds = float(pd.read_csv(path, sep="\t")["s"].iloc[-1])
        ends.append(path.stat().st_mtime)
        begins.append(path.stat().st_mtime - seconds)
    return (max(ends) - min(begins)) / 60


def _keep_tables(results: Path, name: str) -> None:
    target = ROOT / "benchmarks/results" / name
    shutil.copytree(results / "tables", target, dirs_exist_ok=True)


def demo(_: Path) -> list[Row]:
    """Read times and table of the demo; run it first if it is not there."""
    results = ROOT / "results/demo"
    if not (results / "report.html").exists():
        run(["make", "demo"])
    _keep_tables(results, "demo")
    again = "make demo; python -m benchmarks demo"
    minutes = wall_minutes(results)
    row = Row(
        "demo.minutes", "first job's start to last job's end", "packaged images",
        minutes, "min", "<= 15", again,
    )  # fmt: skip
    return [row, *_segmentation("demo", results, again)]


def dsb2018(_: Path) -> list[Row]:
    """Read the table of a finished pilot run."""
    results = ROOT / "results/dsb2018-pilot"
    if not (results / "tables/segmentation.csv").exists():
        print(
            "dsb2018: no finished run; first "
            "`snakemake --cores 2 --configfile config/dsb2018/pilot.yaml`"
        )
        return [row for row in load() if row.id.startswith("dsb2018.")]
    _keep_tables(results, "dsb2018-pilot")
    again = "snakemake --cores 2 --configfile config/dsb2018/pilot.yaml"
    return _segmentation("dsb2018", results, f"{again}; python -m benchmarks dsb2018")


def resumed(folder: Path) -> list[Row]:
    """Kill training a hundred times."""
    same = resume.kills_identical(folder, kills=100, steps=120)
    what = "runs killed by SIGKILL at random moments and run again: same final weights"
    return [
        Row("resume.kills_identical", what, "undisturbed run, 120 steps", same,
            "of 100", "= 100", "python -m benchmarks resume")
    ]  # fmt: skip


def invariant(folder: Path) -> list[Row]:
    """Divide the work in other ways; change the tiles."""
    lab, model = laboratory(folder)
    share, count = invariance.identical_share(lab, folder / "divided")
    command = "python -m benchmarks invariance"
    return [
        Row("invariance.images_identical",
            f"share of {count} images with the same SHA-256: 1 and 4 shards, 1 and 2 "
            "workers, another order, and a kill", model, share, "", "= 1", command),
        Row("invariance.micro_batch_difference",
            "largest difference between micro-batch 1 and 8, relative to the range",
            model, invariance.micro_batch_difference(lab), "", "<= 0.0001", command),
        Row("invariance.tile_size_psnr",
            "worst pair of tile sizes 64, 96 and 160, 320 x 320 px", model,
            invariance.tile_size_psnr(lab), "dB", ">= 40", command),
    ]  # fmt: skip


def seam(folder: Path) -> list[Row]:
    """Look for seams in a large image."""
    lab, model = laboratory(folder)
    found = seams.seam_excess(lab, 1024, tile=128, overlap=16, threads=2)
    return [
        Row("seams.gradient_excess",
            "gradient power across tile borders over that elsewhere, minus 1 "
            f"(chance: {found['expected']:.4f} +- {found['sd']:.4f})",
            f"{model}, 1024 x 1024 px, tile 128", abs(found["excess"]), "", "<= 0.02",
            "python -m benchmarks seams")
    ]  # fmt: skip


def bad(folder: Path) -> list[Row]:
    """Give bad input of every kind."""
    answers = bad_inputs.answered(folder)
    good = sum(answer.ok for answer in answers)
    write_text(ROOT / "benchmarks/results/bad_inputs.md", bad_inputs.markdown(answers))
    return [
        Row("bad_inputs.answered",
            f"bad inputs ({len(answers)} tried) with one clear error: file, key, mend",
            "every stage", good, "", ">= 200", "python -m benchmarks bad_inputs")
    ]  # fmt: skip


def against_peers(_: Path) -> list[Row]:
    """Sample with the peers' pipelines; keep the old rows where they are missing."""
    _found, missing = peer_pipelines.load_peers()
    if missing:
        print("\n".join(f"peers: {reason}" for reason in missing))
        return [row for row in load() if row.id.startswith("peers.")]
    return peers.measure()


def planned(folder: Path) -> list[Row]:
    """Plan a million images, and compare the plan of the demo with its run."""
    seconds, memory, jobs = scale.plan(folder)
    command = "python -m benchmarks plan"
    what = "dry run of config/bulk/million.yaml"
    rows = [
        Row("plan.million_seconds", what, f"{jobs} jobs", seconds, "s", "<= 60",
            command),
        Row("plan.million_memory", f"{what}: peak resident memory", f"{jobs} jobs",
            memory, "MB", "<= 2000", command),
    ]  # fmt: skip
    if (ROOT / "results/demo/report.html").exists():
        rows += rates.planned(wall_minutes(ROOT / "results/demo"))
    return rows


def overhead(folder: Path) -> list[Row]:
    """Run the demo on one core; compare its wall time with that of its stages."""
    wall = scale.run_demo(folder)
    results = folder / "results/demo"
    spans = scale.stage_times(results)
    work, processes = scale.covered(spans), scale.process_seconds(results)
    what = f"demo on one core: {wall:.0f} s, {len(spans)} jobs"
    command = "python -m benchmarks overhead"
    return [
        Row("demo.workflow_overhead",
            "(wall time - sum of stage times) / wall time; a stage counts with its "
            "whole process, as without Snakemake", what, 1 - processes / wall, "",
            "<= 0.1", command),
        Row("demo.start_share",
            "share of the wall time in which no stage was at work: Snakemake, Python "
            "starting, and importing torch and TensorFlow", what, 1 - work / wall, "",
            "<= 0.3", command),
    ]  # fmt: skip


PILOT = ROOT / "results/dsb2018-pilot"


def finished(folder: Path) -> list[tuple[Laboratory, str, str, Path]]:
    """Return experiments with a model: what, its name, a suffix, and its tables."""
    lab, model = laboratory(folder)
    found = [(lab, model, "", ROOT / "benchmarks/results/demo")]
    if (PILOT / "diffusion/model.pt").exists() and (PILOT / "start.json").exists():
        pilot = Laboratory.of_experiment(PILOT, ROOT / "config/dsb2018/pilot.yaml")
        tables = ROOT / "benchmarks/results" / PILOT.name
        found.append((pilot, f"model of {PILOT.name}", "_dsb2018", tables))
    return found


def quality_curve(folder: Path) -> list[Row]:
    """Measure quality against steps with the models that are there."""
    rows = []
    for lab, model, suffix, tables in finished(folder):
        rows += quality.rows(lab, model, tables, suffix=suffix)
    return rows


def segmented(folder: Path) -> list[Row]:
    """Train segmenters on images of few steps and of the full chain."""
    rows, merged = [], []
    for lab, model, suffix, tables in finished(folder):
        rows += quality_ap50.rows(lab, model, tables, suffix=suffix)
        if (tables / "quality.csv").exists():
            merged += quality.stored_rows(tables, model, suffix=suffix)
    if merged:
        # The rows of that area hold this AP50, too.
        save("quality", merged)
    return rows


def synthesised(folder: Path) -> list[Row]:
    """Time a large image from file to file."""
    lab, model = laboratory(folder)
    return synthesis.rows(lab, folder, model)


def unconditionally(folder: Path) -> list[Row]:
    """Time an image from noise, with as few steps as are as good as all."""
    lab, model = laboratory(folder)
    return unconditional.rows(lab, model, ROOT / "benchmarks/results/demo")


FAULTS = ROOT / "benchmarks/results/faults.md"


def faulted(folder: Path) -> list[Row]:
    """Inject every fault three times."""
    outcomes = list(faults.injected(folder, times=3))
    write_text(FAULTS, faults.table(outcomes))
    return faults.rows(outcomes, "python -m benchmarks faults")


def on_slurm(folder: Path) -> list[Row]:
    """Run the main job and the faults of a cluster through a real SLURM."""
    return slurm_rows(slurm.run(folder))


def slurm_rows(found: slurm.Result) -> list[Row]:
    """Write the table of faults and return the rows of a test run."""
    main, broken = found.of("test_main_job"), found.of("test_cluster_faults")
    write_text(FAULTS.with_name("slurm_faults.md"), slurm.table(broken))
    on, command = (
        "three nodes and two GPUs that are claimed",
        "python -m benchmarks slurm",
    )
    rows = [
        Row("slurm.smoke_green", "smoke main job from a fresh clone", on,
            float(bool(main) and all(test.passed for test in main)), "", "= 1",
            command),
        Row("slurm.faults_recovered",
            f"share of {len(broken)} faults after which the same command gave the "
            "artefacts of an undisturbed run", on,
            sum(test.passed for test in broken) / max(len(broken), 1), "", "= 1",
            command),
    ]  # fmt: skip
    if found.costs:
        jobs = f"{found.costs['jobs']:.0f} jobs; {on}"
        rows += [
            Row("slurm.smoke_minutes", "smoke main job", jobs,
                found.costs["seconds"] / 60, "min", "<= 15", command),
            Row("slurm.overhead_per_job", "a job's time beside that of its rules", jobs,
                found.costs["overhead_per_job_s"], "s", "<= 20", command),
        ]  # fmt: skip
    return rows


AREAS: dict[str, Callable[[Path], list[Row]]] = {
    "demo": demo,
    "dsb2018": dsb2018,
    "resume": resumed,
    "invariance": invariant,
    "seams": seam,
    "bad_inputs": bad,
    "faults": faulted,
    "slurm": on_slurm,
    "peers": against_peers,
    "plan": planned,
    "overhead": overhead,
    "volumes": volumes.rows,
    "volume_time": volumes.published,
    "quality_ap50": segmented,
    "quality": quality_curve,
    "unconditional": unconditionally,
    "synthesis": synthesised,
    "engine_speed": engine_speed.rows,
    "simulators": simulators.rows,
    "memorisation": memorisation.rows,
    "frc": frc.rows,
    "boundaries": boundaries.rows,
    "rendering": rendering.rows,
    "compose": compose.rows,
    "houses": houses.rows,
    "eschweiler": papers.eschweiler,
    "saguy": papers.saguy,
    "cellresdm": papers.cellresdm,
    "semantic_filtering": layers.semantic_filtering,
}


def main() -> None:
    """Measure the areas that were asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("areas", nargs="*", help=f"of {', '.join(AREAS)}")
    for area in parser.parse_args().areas or AREAS:
        if area not in AREAS:
            parser.error(f"no area {area!r}; there are {', '.join(AREAS)}")
        print(f"== {area}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rows = AREAS[area](Path(folder))
        save(area, rows)
        for row in rows:
            figure = f"{row.id}: {row.value:.4g} {row.unit}"
            mark = "met" if row.met else "NOT met"
            goal = "" if row.goal == "none" else f" (goal {row.goal}: {mark})"
            print(figure + goal)


if __name__ == "__main__":
    main()
