"""Why a variant has no statistic: one small number per variant and group."""

from __future__ import annotations

TESTED = 0
MONOMORPHIC = 1
ALL_MISSING = 2
EXPLAINED_BY_COVARIATES = 3
TOO_FEW_SAMPLES = 4
NO_SAMPLES = 5

#: code -> name in exported tables
REASONS: dict[int, str] = {
    TESTED: "",
    MONOMORPHIC: "MONOMORPHIC",
    ALL_MISSING: "ALL_MISSING",
    EXPLAINED_BY_COVARIATES: "EXPLAINED_BY_COVARIATES",
    TOO_FEW_SAMPLES: "TOO_FEW_SAMPLES",
    NO_SAMPLES: "NO_SAMPLES",
}

#: code -> what it means, for people
MEANINGS: dict[int, str] = {
    TESTED: "The variant was tested.",
    MONOMORPHIC: "All called samples of the group carry the same genotype.",
    ALL_MISSING: "No sample of the group has a call.",
    EXPLAINED_BY_COVARIATES: "The genotype is a linear combination of the covariates.",
    TOO_FEW_SAMPLES: "No degree of freedom is left after the covariates.",
    NO_SAMPLES: "The group has no sample on this chromosome, such as Y among females.",
}
