"""What the workflow plans for each config, and that its rules are complete."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from tests.variations import FILTERING, LABELLED, SHARDED, TRANSLATING, VARIATIONS

from phantomscope.config.load import load_config
from phantomscope.config.papers import PAPERS
from phantomscope.planning.sharding import shard_count
from phantomscope.stages.registry import STAGES

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("all", "demo", "default", *PAPERS)
# Only a run about a paper has these rules.
OF_PAPERS = {"tabulate_paper", "draw_paper"}
# Rules that do what others do, of another data set.
AGAIN = {"download_plate": "download", "acquire_plate": "acquire"}
DEMO = Counter(
    write_config=1, acquire=1, prepare=1, fit_sketch=1, simulate=2, photograph=2,
    train_diffusion=1, choose_start=1, synthesise=2, check=2, gather=2,
    measure_realism=1, measure_populations=1, train_segmenter=7, predict=7,
    predict_generalist=1, evaluate=8, tabulate=1, draw_figures=1, draw_segmentations=1,
    report=1,
)  # fmt: skip
SHIPPED = sorted(
    path for path in (ROOT / "config").rglob("*.yaml")
    if path.name not in ("datasets.yaml", "layers.yaml")
    and path.parent.name not in PAPERS
)  # fmt: skip

FACTS = """
import json
from snakemake.io import get_flag_value

include: "{root}/workflow/Snakefile"

def describe(rule):
    reports = [get_flag_value(item, "report") for item in rule.output]
    return {{
        "script": str(rule.script) if rule.script else None,
        "log": list(map(str, rule.log)),
        "benchmark": str(rule.benchmark) if rule.benchmark else None,
        "conda": rule.conda_env is not None,
        "message": rule.message,
        "docstring": rule.docstring,
        "resources": sorted(rule.resources),
        "reports": [
            {{
                "caption": item.caption.get_path_or_uri(secret_free=True)
                if item.caption else None,
                "category": item.category,
                "labels": item.labels,
            }}
            for item in reports if item
        ],
    }}

with open("facts.json", "w") as stream:
    json.dump({{rule.name: describe(rule) for rule in workflow.rules}}, stream)
"""


def jobs(process: subprocess.CompletedProcess[str]) -> Counter[str]:
    """Count the jobs of each rule in the output of a dry run."""
    text = process.stdout + process.stderr
    assert process.returncode == 0, text
    table = re.search(r"Job stats:\n(.*?)^total +(\d+)$", text, re.S | re.M)
    if table is None:
        assert "Nothing to be done" in text
        return Counter()
    rows = re.findall(r"^(\w+) +(\d+)$", table[1], re.M)
    found = Counter({rule: int(count) for rule, count in rows})
    assert found.total() == int(table[2])
    return found


def work(process: subprocess.CompletedProcess[str]) -> Counter[str]:
    """Count jobs, without the targets that only collect."""
    return Counter({k: n for k, n in jobs(process).items() if k not in TARGETS})


def changed(plan: Counter[str], changes: dict[str, int]) -> Counter[str]:
    return Counter({k: n for k, n in {**plan, **changes}.items() if n})


def write(path: Path, options: dict) -> Path:
    path.write_text(yaml.safe_dump(options))
    return path


@pytest.fixture(scope="module")
def facts(snakemake, tmp_path_factory):
    folder = tmp_path_factory.mktemp("facts")
    snakefile = folder / "Snakefile"
    snakefile.write_text(FACTS.format(root=ROOT))
    found = {}
    # Translation has rules of its own, and so has filtering.
    plated = {**FILTERING, "filter": {**FILTERING["filter"], "plate": "bbbc026_plate"}}
    for options in ({}, TRANSLATING, plated):
        path = write(folder / "config.yaml", options)
        process = snakemake(
            folder, "--list-rules", "--configfile", path, snakefile=snakefile
        )
        assert process.returncode == 0, process.stderr
        found |= json.loads((folder / "facts.json").read_text())
    return found


def test_without_a_config_the_demo_is_planned(snakemake, tmp_path):
    process = snakemake(tmp_path, "--dry-run")
    assert work(process) == DEMO
    assert "results/demo/report.html" in process.stdout + process.stderr


ASKED = """
import json

include: "{root}/workflow/Snakefile"

def asked(one):
    names = {{"_cores", "gpu", "nodes"}} & set(one.resources)
    numbers = {{name: one.resources[name] for name in names}}
    return {{k: v.value for k, v in numbers.items() if not v.is_evaluable()}}

with open("asked.json", "w") as stream:
    json.dump({{one.name: asked(one) for one in workflow.rules}}, stream)
"""


def test_a_training_asks_for_the_devices_that_share_it(snakemake, tmp_path):
    options = {
        "train": {"device": "cuda", "devices": 4, "threads": 2},
        "distil": {"steps": 2, "batch_size": 3}, "synthesise": {"device": "cuda"},
    }  # fmt: skip
    path, snakefile = write(tmp_path / "mine.yaml", options), tmp_path / "Snakefile"
    snakefile.write_text(ASKED.format(root=ROOT))
    process = snakemake(
        tmp_path, "--list-rules", "--configfile", path, snakefile=snakefile
    )
    assert process.returncode == 0, process.stderr
    asked = json.loads((tmp_path / "asked.json").read_text())
    assert asked["train_diffusion"] == {"_cores": 8, "gpu": 4, "nodes": 1}
    assert asked["distil"] == {"_cores": 6, "gpu": 3, "nodes": 1}
    assert asked["choose_start"] == {"_cores": 1, "gpu": 1}


def test_both_snakefiles_plan_the_same_work(snakemake, tmp_path):
    for extra in ([], ["demo"]):
        shim = snakemake(tmp_path, "--dry-run", *extra)
        own = snakemake(
            tmp_path, "--dry-run", *extra, snakefile=ROOT / "workflow/Snakefile"
        )
        assert work(shim) == work(own) == DEMO


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(ROOT)))
def test_shipped_configs(path, snakemake, tmp_path):
    config = load_config(path)
    segment = config.segment
    trained = len(segment.tools) * len(config.arms) * len(segment.seeds) + 1
    plan = changed(DEMO, {
        **dict.fromkeys(SHARDED, shard_count(config)),
        "train_segmenter": trained,
        "predict": trained,
        "evaluate": trained + segment.generalist,
        "pseudo_sketches": int(config.condition.kind == "sketch"),
    })  # fmt: skip
    assert config.has_labels
    assert work(snakemake(tmp_path, "--dry-run", "--configfile", path)) == plan


@pytest.mark.parametrize("name", VARIATIONS)
def test_variations(name, snakemake, tmp_path):
    options, changes = VARIATIONS[name]
    path = write(tmp_path / "mine.yaml", options)
    process = snakemake(tmp_path, "--dry-run", "--configfile", path)
    assert work(process) == changed(DEMO, changes)


def test_a_learnt_shape_lies_beside_the_sketch_parameters(snakemake, tmp_path):
    tissue = {"organism": "meristem", "size": [16, 64, 64], "shards": 2}
    listed = {}
    for model in ("learnt", "built_in"):
        simulate = {**tissue, "meristem": {"shape_model": model}}
        path = write(tmp_path / "mine.yaml", {"source": LABELLED, "simulate": simulate})
        process = snakemake(tmp_path, "--summary", "--configfile", path)
        assert process.returncode == 0, process.stderr
        listed[model] = "/shape_model.npz" in process.stdout
    assert listed == {"learnt": True, "built_in": False}


def test_a_name_alone_runs_the_demo_under_it(snakemake, tmp_path):
    process = snakemake(tmp_path, "--dry-run", "--config", "experiment=other")
    assert work(process) == DEMO
    text = process.stdout + process.stderr
    assert "results/other/report.html" in text
    assert "results/demo/" not in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"simulate": {"imagess": 3}}, "did you mean `simulate.images`?"),
        ({"tarin": {"steps": 3}}, "did you mean `train`?"),
        ({"seed": -1}, "bad value of `seed`"),
    ],
)
@pytest.mark.parametrize("way", ["file", "option"])
def test_a_wrong_config_ends_with_one_clear_message(
    way, options, expected, snakemake, tmp_path
):
    if way == "file":
        given = ["--configfile", write(tmp_path / "mine.yaml", options)]
    else:
        given = ["--config", *(f"{k}={json.dumps(v)}" for k, v in options.items())]
    process = snakemake(tmp_path, "--cores", 1, *given)
    text = process.stdout + process.stderr
    assert process.returncode == 1
    assert text.count("error: ") == 1
    assert expected in text
    assert ("mine.yaml" if way == "file" else "--config") in text
    assert "Traceback" not in text
    assert 'File "' not in text
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "options", [{}, TRANSLATING, FILTERING], ids=["house", "translation", "filtering"]
)
def test_lint(options, snakemake, tmp_path):
    path = write(tmp_path / "config.yaml", options)
    process = snakemake(tmp_path, "--lint", "--configfile", path)
    assert process.returncode == 0, process.stdout + process.stderr


def test_translation_is_planned(snakemake, tmp_path):
    study = {"steps": [1, 4], "artefacts": ["dust"], "methods": ["unet"]}
    options = {"translate": {**TRANSLATING["translate"], "study": study}}
    path = write(tmp_path / "config.yaml", options)
    found = work(snakemake(tmp_path, "--dry-run", "--configfile", path))
    assert found == Counter(
        write_config=1, survey_plates=1, fetch_plates=1, acquire_plates=1,
        scale_fields=1, pair_fields=1,
        train_codec=1, train_translator=6, translate=18, evaluate_translation=18,
        join_scores=6,
        measure_profiles=21, compare_profiles=3,
        train_detector=4, detect=4, evaluate_detection=4,
        study_steps=2, plant_artefacts=1, study_artefacts=2,
        tabulate_translation=1, draw_translation=1, report_translation=1,
        tabulate_studies=1, draw_studies=1,
    )  # fmt: skip


def test_format():
    command = [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_rules_are_complete(facts):
    for name, rule in facts.items():
        assert rule["docstring"], name
        if name in TARGETS:
            continue
        assert Path(rule["script"]).name == f"{AGAIN.get(name, name)}.py"
        assert len(rule["log"]) == 1, name
        assert rule["benchmark"], name
        assert rule["conda"], name
        assert rule["message"], name
        assert {"mem_mb", "runtime"} <= set(rule["resources"]), name


# By hand: made for stand-ins.
WITHOUT_RULE = {"simulate_tables"}


def test_scripts_stages_and_rules_belong_together(facts):
    rules = {AGAIN.get(name, name) for name in facts if name not in TARGETS}
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert scripts == rules | OF_PAPERS
    assert set(STAGES) - scripts == WITHOUT_RULE
    for name in rules:
        text = (ROOT / "scripts" / f"{name}.py").read_text()
        stage = re.search(r"^run\(snakemake, (\w+)\)$", text, re.M)
        assert stage, name
        assert stage[1] in STAGES


def test_report_items_are_described(facts):
    items = [item for rule in facts.values() for item in rule["reports"]]
    assert items
    for item in items:
        assert item["category"]
        assert item["labels"]
        assert Path(item["caption"]).read_text().strip()
    shown = {Path(item["caption"]).name for item in items} | {"workflow.rst"}
    assert {path.name for path in (ROOT / "workflow/report").iterdir()} == shown


@pytest.fixture(scope="module")
def finished(snakemake, tmp_path_factory):
    """The first rules of a tiny experiment, and a function to plan it again."""
    folder = tmp_path_factory.mktemp("finished")
    options = {
        "experiment": "tiny",
        "simulate": {"images": 2, "size": [96, 96], "shards": 1},
        "fit": {"calibration_rounds": 1},
        "network": {"preset": "small"},
        "train": {"steps": 2, "batch_size": 2, "patch": 32, "warmup": 1},
    }
    targets = ["results/tiny/sketches/shard-000", "results/tiny/diffusion/model.pt"]

    def call(*arguments: object, **changes: dict) -> subprocess.CompletedProcess[str]:
        merged = {k: {**v, **changes.get(k, {})} if isinstance(v, dict) else v
                  for k, v in options.items()}  # fmt: skip
        path = write(folder / "tiny.yaml", {**changes, **merged})
        return snakemake(folder, *arguments, "--configfile", path, "--", *targets)

    process = call("--cores", 2)
    assert process.returncode == 0, process.stderr
    return lambda **changes: work(call("--dry-run", **changes))


def test_finished_jobs_stay_finished(finished):
    assert not finished()


@pytest.mark.parametrize("option", ["checkpoint_every", "micro_batch", "devices"])
def test_how_it_runs_plans_nothing_again(option, finished):
    assert not finished(train={option: 1})


def test_more_images_do_not_acquire_or_train_again(finished):
    plan = finished(simulate={"images": 3})
    assert plan["simulate"] == 1
    assert not {"acquire", "prepare", "train_diffusion"} & set(plan)


def test_longer_training_plans_the_training_alone(finished):
    assert finished(train={"steps": 3}) == Counter(train_diffusion=1)


def test_another_split_plans_what_follows_it(finished):
    plan = finished(split={"margin": 32})
    assert plan == Counter(prepare=1, fit_sketch=1, simulate=1, train_diffusion=1)


MODULE = """
module ps:
    snakefile: "clone/workflow/Snakefile"
    config: {"experiment": "mine", "simulate": {"shards": 3}}
    prefix: "synth"

use rule * from ps as ps_*
"""
LEFT_OUT = shutil.ignore_patterns("__pycache__")


def test_runs_as_a_module_of_another_workflow(snakemake, tmp_path):
    """The scripts use the library beside them, whatever is installed."""
    for name in ("workflow", "scripts", "src", "envs"):
        shutil.copytree(ROOT / name, tmp_path / "clone" / name, ignore=LEFT_OUT)
    with (tmp_path / "clone/src/phantomscope/__init__.py").open("a") as stream:
        stream.write("\nimport sys\nprint('from the clone', file=sys.stderr)\n")
    snakefile = tmp_path / "Snakefile"
    snakefile.write_text(MODULE)

    process = snakemake(tmp_path, "--dry-run", "ps_all", snakefile=snakefile)
    expected = changed(DEMO, {**dict.fromkeys(SHARDED, 3), "all": 1})
    assert jobs(process) == Counter({f"ps_{k}": n for k, n in expected.items()})
    assert process.stderr.count("from the clone") == 1
    assert "not present" not in process.stderr
    assert not re.search(r"(?<!synth/)results/", process.stdout + process.stderr)

    process = snakemake(tmp_path, "--cores", 1, "ps_prepare", snakefile=snakefile)
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("from the clone") >= 3  # the plan and two jobs
    assert (tmp_path / "synth/results/mine/prepared/manifest.csv").is_file()
    assert (tmp_path / "synth/results/mine/logs/prepare.log").is_file()
    assert not (tmp_path / "results").exists()
