"""The methods paragraph, from recorded settings, with the references it needs."""

from __future__ import annotations

from typing import Any

from imgwas._version import __version__
from imgwas.report.page_parts import Study

REFERENCES = {
    "ols": "Frisch R, Waugh FV (1933) Partial time regressions as compared with individual trends. "
    "Econometrica 1:387-401.",
    "control": "Devlin B, Roeder K (1999) Genomic control for association studies. "
    "Biometrics 55:997-1004.",
    "blom": "Blom G (1958) Statistical Estimates and Transformed Beta-Variables. Wiley.",
    "cca": "Ferreira MAR, Purcell SM (2009) A multivariate test of association. "
    "Bioinformatics 25:132-133.",
    "sidak": "Šidák Z (1967) Rectangular confidence regions for the means of multivariate normal "
    "distributions. J Am Stat Assoc 62:626-633.",
    "fuma": "Watanabe K et al. (2017) Functional mapping and annotation of genetic associations "
    "with FUMA. Nat Commun 8:1826.",
    "plink": "Chang CC et al. (2015) Second-generation PLINK: rising to the challenge of larger "
    "and richer datasets. GigaScience 4:7.",
    "susie": "Wang G et al. (2020) A simple new approach to variable selection in regression, "
    "with application to genetic fine mapping. J R Stat Soc B 82:1273-1300.",
    "he": "Wu Y, Sankararaman S (2018) A scalable estimator of SNP heritability for biobank-scale "
    "data. Bioinformatics 34:i187-i194.",
    "greml": "Yang J et al. (2011) GCTA: a tool for genome-wide complex trait analysis. "
    "Am J Hum Genet 88:76-82.",
    "ldsc": "Bulik-Sullivan BK et al. (2015) LD Score regression distinguishes confounding from "
    "polygenicity in genome-wide association studies. Nat Genet 47:291-295.",
    "palmer": "Palmer C, Pe'er I (2017) Statistical correction of the Winner's Curse explains "
    "replication variability in quantitative trait genome-wide association studies. "
    "PLoS Genet 13:e1006916.",
    "zhong": "Zhong H, Prentice RL (2008) Bias-reduced estimators and confidence intervals for "
    "odds ratios in genome-wide association studies. Biostatistics 9:621-634.",
    "firth": "Firth D (1993) Bias reduction of maximum likelihood estimates. Biometrika 80:27-38.",
    "cox": "Cox DR (1972) Regression models and life-tables. J R Stat Soc B 34:187-220.",
    "bh": "Benjamini Y, Hochberg Y (1995) Controlling the false discovery rate. "
    "J R Stat Soc B 57:289-300.",
}  # fmt: skip


def methods_text(study: Study) -> list[str]:
    """Paragraphs in the order of the work."""
    return [text for text, _ in _paragraphs(study)]


def references(study: Study) -> list[str]:
    """What the paragraphs cite, in the order of the work."""
    keys = dict.fromkeys(key for _, cited in _paragraphs(study) for key in cited)
    return [REFERENCES[key] for key in keys]


def _paragraphs(study: Study) -> list[tuple[str, list[str]]]:
    makers = (
        _encoder,
        _scan,
        _threshold,
        _loci,
        _omnibus,
        _heritability,
        _replication,
        _traits,
        _maps,
    )
    found = [made for maker in makers if (made := maker(study)) is not None]
    return [*found, (f"This page was written by imgwas {__version__}.", [])]


def _encoder(study: Study) -> tuple[str, list[str]] | None:
    about = study.sources.facts("encoder", "encoder/encoder.json")
    if not about:
        return None
    settings, training = about.get("settings") or {}, about.get("training") or {}
    return (
        f"Latents come from an encoder of the kind {about.get('encoder')} with "
        f"{settings.get('latents')} latents, trained on {about.get('n_train', 0):,} images and "
        f"chosen on {about.get('n_validation', 0):,} held-out ones (seed {training.get('seed')}).",
        [],
    )


def _scan(study: Study) -> tuple[str, list[str]]:
    metadata = study.sources.sumstats.metadata
    settings = metadata["settings"]
    names = (metadata.get("covariates") or {}).get("names") or []
    people = sorted(group["n"] for group in metadata["groups"])
    span = f"{people[0]:,}" if people[0] == people[-1] else f"{people[0]:,} to {people[-1]:,}"
    dof = sorted({group["dof"] for group in metadata["groups"]})
    text = [
        f"{len(study.latents):,} latents of {span} people were tested against "
        f"{study.genome.n_tested:,} variants by ordinary least squares with an intercept and "
        f"{len(names)} covariates ({', '.join(map(str, names)) or 'none'}), projected out of both "
        f"latents and genotypes; P values are two-sided, from t with "
        f"{' or '.join(f'{one:,}' for one in dof[:3])} degrees of freedom on the autosomes."
    ]
    cited = ["ols"]
    if settings.get("rank_normal"):
        text.append("Latents were brought to a normal distribution by ranks.")
        cited.append("blom")
    text.append(_missing(settings))
    text.append(_filters(settings))
    control = [one.lambda_gc for one in study.latents if one.n_tested]
    if control:
        text.append(f"Genomic control lay between {min(control):.3f} and {max(control):.3f}.")
        cited.append("control")
    text.append(f"The scan was made by imgwas {metadata.get('imgwas_version')}.")
    return " ".join(filter(None, text)), cited


def _missing(settings: dict[str, Any]) -> str:
    words = {"mean": "Missing calls were set to the variant's mean.",
             "drop": "People with a missing call were left out variant by variant."}  # fmt: skip
    return words.get(str(settings.get("missing_genotype")), "")


def _filters(settings: dict[str, Any]) -> str:
    words = {
        "maf": "minor allele frequency of at least",
        "mac": "minor allele count of at least",
        "geno": "share of missing calls of at most",
        "hwe": "Hardy-Weinberg P of at least",
    }
    filters = settings.get("filters") or {}
    said = [f"{words[name]} {filters[name]:g}" for name in words if filters.get(name) is not None]
    return f"Variants had a {', a '.join(said)}." if said else "No filter of variants was set."


def _threshold(study: Study) -> tuple[str, list[str]]:
    return (
        f"Genome-wide significance is P = 5e-8; study-wide significance, over {len(study.latents)} "
        f"latents, is {study.study_wide:.2g}.",
        [],
    )


def _loci(study: Study) -> tuple[str, list[str]]:
    from imgwas.report.sections_loci import definition_text

    preset = study.sources.loci.definition.get("preset")
    cited = {"fuma": ["fuma"], "plink": ["plink"]}.get(str(preset), [])
    text = f"{len(study.sources.loci.table):,} loci. {definition_text(study)}"
    if "signals" in study.sources.tables:
        text += " Independent signals of a locus were found by forward selection with backward "
        text += "checks, in exact regressions on the people of the scan."
    if "credible" in study.sources.tables:
        text += " Credible sets come from the sum of single effects, on the same people."
        cited = [*cited, "susie"]
    return text, cited


def _omnibus(study: Study) -> tuple[str, list[str]] | None:
    if not study.genome.omnibus:
        return None
    test = study.joint_test
    joint = {
        "f": "an exact F test of the variant's regression on all latents (one canonical "
        "correlation)",
        "chi2": "a chi-square test of all latents with their correlation",
    }
    return (
        f"All latents were tested together by {joint.get(test, test)}, and by the "
        "smallest P of the latents, corrected for their number (Šidák); the combined test is twice "
        "the smaller P of the two.",
        ["cca", "sidak"],
    )


def _heritability(study: Study) -> tuple[str, list[str]] | None:
    if "heritability" not in study.sources.folders:
        return None
    method = study.sources.facts("heritability", "heritability.json").get("method")
    table = study.sources.table("heritability", "heritability.tsv")
    if method is None:
        method = "ldsc" if table is not None and "intercept" in table.columns else "greml"
    words = {
        "he": "Haseman-Elston regression with random probes and a block jackknife",
        "greml": "restricted maximum likelihood with a genetic relationship matrix",
        "ldsc": "LD score regression",
    }
    known = method if method in words else "he"
    return f"Heritability was estimated by {words[known]}.", [known]


def _replication(study: Study) -> tuple[str, list[str]] | None:
    if "replication" not in study.sources.folders:
        return None
    return (
        "Lead variants were looked up in other people: P is one-sided in the direction of "
        "discovery; expected numbers and corrected effects allow for the selection of leads.",
        ["palmer", "zhong"],
    )


def _traits(study: Study) -> tuple[str, list[str]] | None:
    table = study.sources.table("traits", "associations.tsv")
    if table is None:
        return None
    methods = set(map(str, table["method"]))
    cited = ["bh"] + [key for key in ("firth", "cox") if key in methods]
    return (
        "Latents were tested against traits one by one with all covariates: quantities by least "
        "squares, cases by logistic regression (Firth's where classes separate), survival by Cox's "
        "model. Effects are per SD of the latent.",
        cited,
    )


def _maps(study: Study) -> tuple[str, list[str]] | None:
    about = study.sources.facts("maps", "map.json")
    if not about:
        return None
    return (
        "Effects of lead variants on all latents were carried through the encoder's decoder, "
        f"differentiated at {about.get('n_people')} people, to maps and to regions of "
        f"{study.sources.mask.text(str(about.get('atlas') or 'no atlas'))}.",
        [],
    )
