"""A simulated study and its page, made once for all tests of reports."""

from __future__ import annotations

import functools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

import imgwas

N, M, K = 240, 1500, 5
HOSTILE = (
    "<img/src=x/onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "'\"--><svg/onload=alert(3)>",
)
FORMULA = "a$\\frac{$b"
LATENT = "<img src=x onerror=alert(4)>"
ODD = "person9021"
LOG = (
    "2026-01-01T00:00:00Z DEBUG   host     bighost, Linux\n"
    f"2026-01-01T00:00:00Z WARNING {ODD} is odd\n"
    "2026-01-01T00:00:00Z INFO    read /home/me/secret/cohort.bed\n"
    "2026-01-01T00:00:00Z INFO    done in 2.5 s, peak memory 10 MB\n"
)


def people() -> list[str]:
    """Ids that could not be anything else."""
    return [f"person{9000 + 7 * i}" for i in range(N)]


def make_study(folder: Path, *, hostile: bool, **options: object) -> Path:
    """Scan a simulated cohort whose strongest variants and a latent may have hostile names."""
    cohort = imgwas.simulate_cohort(
        folder, sample_ids=people(), n_variants=M, n_latents=K, n_causal=4, seed=8,
        variance_explained=0.35, covariate_r2=0.0, missing_rate=0.02,
    )  # fmt: skip
    if hostile:
        text = (folder / "cohort.bim").read_text()
        for name, bad in zip(cohort.truth["variant_id"], HOSTILE, strict=False):
            text = re.sub(rf"\t{name}\t", lambda _, b=bad: f"\t{b}\t", text)
        (folder / "cohort.bim").write_text(text)
    latents = imgwas.read_latents(folder / "latents.parquet")
    if hostile:
        frame = pd.DataFrame(latents.values, columns=[LATENT, FORMULA, *latents.names[2:]])
        frame.insert(0, "IID", list(latents.sample_ids))
        latents = imgwas.latents_from_frame(frame)
    covariates = imgwas.read_covariates(folder / "covariates.tsv", categorical=["sex", "centre"])
    imgwas.associate(
        imgwas.open_genotypes(folder / "cohort"), latents, covariates, out=folder / "results",
        omnibus=True, command=["imgwas", "associate", "--bfile", "/home/me/secret/cohort"],
        **options,
    )  # fmt: skip
    return folder


@functools.cache
def shared_study(base: Path) -> Path:
    """Scan of a study with everything that other commands made of it."""
    folder = make_study(base / "report-study", hostile=False)
    write_neighbours(folder)
    return folder


@functools.cache
def shared_page(base: Path) -> Path:
    """The page of the study, with everything."""
    folder = shared_study(base)
    return imgwas.write_report(
        folder / "results", folder / "report.html", loci=folder / "loci.tsv",
        maps=folder / "maps", traits=folder / "traits", heritability=folder / "h2",
        replication=folder / "repl", latents=folder / "latents.parquet",
        signals=folder / "signals.tsv", credible=folder / "credible.tsv",
        genotypes=imgwas.open_genotypes(folder / "cohort"),
        reconstructions=next((folder / "maps" / "figures").iterdir()),
    )  # fmt: skip


@functools.cache
def hostile_page(base: Path) -> Path:
    """The page of a study with hostile names, and with an id and places in its log."""
    folder = make_study(base / "report-hostile", hostile=True)
    (folder / "results" / "log-1.txt").write_text(LOG)
    return imgwas.write_report(
        folder / "results", folder / "report.html", title=HOSTILE[1],
        latents=folder / "latents.parquet",
    )  # fmt: skip


def write_neighbours(folder: Path) -> None:
    """Make what other commands write about the scan."""
    results = imgwas.open_sumstats(folder / "results")
    genotypes = imgwas.open_genotypes(folder / "cohort")
    loci = imgwas.find_loci(results, genotypes)
    loci.write(folder / "loci.tsv")
    write_maps(folder / "maps", results, list(loci.table["lead_variant"]))
    latents = imgwas.read_latents(folder / "latents.parquet")
    covariates = imgwas.read_covariates(folder / "covariates.tsv", categorical=["sex", "centre"])
    scan = (results, genotypes, latents, covariates, loci)
    signals = imgwas.condition_loci(*scan, p1=1e-5)
    signals.to_csv(folder / "signals.tsv", sep="\t", index=False)
    imgwas.fine_map_loci(*scan).sets.to_csv(folder / "credible.tsv", sep="\t", index=False)
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"IID": people(), "bmi": rng.normal(size=N), "sbp": rng.normal(size=N)})
    table.to_csv(folder / "people.tsv", sep="\t", index=False)
    (folder / "traits").mkdir()
    traits = imgwas.read_traits(folder / "people.tsv", numbers=["bmi", "sbp"])
    found = imgwas.associate_traits(latents, traits)
    found.to_csv(folder / "traits" / "associations.tsv", sep="\t", index=False, na_rep="NA")
    write_replication(folder / "repl", loci.table)
    write_heritability(folder / "h2", results.latents)


def write_replication(folder: Path, loci: pd.DataFrame) -> None:
    folder.mkdir()
    table = pd.DataFrame(
        {
            "variant_id": loci["lead_variant"],
            "chromosome": loci["chromosome"],
            "base_pair_location": loci["base_pair_location"],
            "latent": loci["latent"],
            "beta_discovery": loci["beta"],
            "standard_error_discovery": loci["standard_error"],
            "beta_replication": loci["beta"] * 0.9,
            "standard_error_replication": loci["standard_error"] * 1.1,
            "same_sign": True,
            "replicated": np.arange(len(loci)) > 0,
        }
    )
    table.to_csv(folder / "replication.tsv", sep="\t", index=False, na_rep="NA")
    summary = {"leads": len(loci), "same_sign": len(loci), "expected_same_sign": 3.9}
    (folder / "replication.json").write_text(json.dumps({"summary": summary}))


def write_maps(folder: Path, results: imgwas.SumStats, names: list[str]) -> None:
    (folder / "figures").mkdir(parents=True)
    rows = [{"name": name, "neg_log10_p": 9.0, "is_finding": True, "region": "pons",
             "region_q": 0.01} for name in names]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "maps.tsv", sep="\t", index=False)
    regions = [{"name": name, "per": "allele", "region": f"region {i}", "volume": 0.01 * i}
               for name in names for i in range(3)]  # fmt: skip
    pd.DataFrame(regions).to_csv(folder / "regions.tsv", sep="\t", index=False)
    stems = {name: name for name in names}
    about = {"scan": results.metadata["digest"], "maps": stems, "n_people": 16, "atlas": "a.nii"}
    (folder / "map.json").write_text(json.dumps(about))
    from PIL import Image

    Image.new("RGB", (300, 120), "#4477AA").save(folder / "figures" / f"{names[0]}.png")


def write_heritability(folder: Path, names: tuple[str, ...]) -> None:
    folder.mkdir()
    table = pd.DataFrame({"latent": names, "heritability": np.linspace(0.1, 0.5, len(names)),
                          "standard_error": 0.04})  # fmt: skip
    table.to_csv(folder / "heritability.tsv", sep="\t", index=False)
    one, other = np.triu_indices(len(names), 1)
    pairs = pd.DataFrame({"latent_1": np.array(names)[one], "latent_2": np.array(names)[other],
                          "genetic_correlation": 0.3, "genetic_correlation_error": 0.1,
                          "phenotypic_correlation": 0.2})  # fmt: skip
    pairs.to_csv(folder / "genetic_correlation_pairs.tsv", sep="\t", index=False)


class Elements(HTMLParser):
    """Elements and visible text of a page, as a browser splits it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def check_safe(elements: Elements) -> None:
    """Nothing that runs but the one script, nothing from outside, no id twice, all figures told."""
    identifiers = [a["id"] for _, a in elements.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    scripts = [a for a in elements.all("script") if a.get("type") != "application/json"]
    assert scripts == [{}]
    for name, attributes in elements.elements:
        assert not [key for key in attributes if key.startswith("on") or key == "style"]
        for key in ("src", "href", "action", "srcset", "data", "formaction"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:image/", "data:text/tab-sep"))
        assert name not in {"iframe", "object", "embed", "link", "base", "form", "foreignobject"}
    assert all(image["alt"] for image in elements.all("img"))
    targets = {a["href"][1:] for a in elements.all("a") if a["href"].startswith("#")}
    assert targets <= set(identifiers)
