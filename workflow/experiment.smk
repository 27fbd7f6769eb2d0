# One experiment: from unannotated images to a measured segmentation model.
report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/config.smk"


if CONFIG.translate.methods:

    include: "rules/translate_common.smk"
    include: "rules/translate.smk"
    include: "rules/score.smk"
    include: "rules/profile.smk"
    include: "rules/detect.smk"
    include: "rules/study.smk"

elif CONFIG.filter.methods:

    include: "rules/acquire.smk"
    include: "rules/filter_common.smk"
    include: "rules/filter.smk"

    if CONFIG.filter.plate:

        include: "rules/plate.smk"

else:

    include: "rules/house.smk"
