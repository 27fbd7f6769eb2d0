# One experiment: from unannotated images to a measured segmentation model.
report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/acquire.smk"
include: "rules/simulate.smk"
include: "rules/train.smk"
include: "rules/sample.smk"
include: "rules/downstream.smk"
include: "rules/measure.smk"
include: "rules/appearance.smk"
include: "rules/tables.smk"
include: "rules/restore.smk"
