"""The files that are damaged, and an independent reading of each that is not checksummed."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

import imgwas
from imgwas.settings import build, read_yaml
from imgwas.tables import read_id_list
from tests.cli_cohort import imgwas as command_line
from tests.cli_cohort import write_cohort
from tests.filesets import random_dosage, write_fileset
from tests.fuzz_formats import FORMAT_TARGETS
from tests.fuzzing import Target, anything, equal, same
from tests.volumes import blob, write_nifti

# --- genotypes ----------------------------------------------------------------------------------


def make_fileset(folder: Path) -> None:
    write_fileset(folder, random_dosage(12, 10))
    (folder / "alleles.txt").write_text("rs1 A\nrs3 G\nrs7 G\n")


def read_fileset(folder: Path) -> Any:
    opened = imgwas.open_genotypes(folder / "set", effect_allele=folder / "alleles.txt")
    table = opened.variants.to_pydict()
    return {**table, "ids": opened.samples.sample_ids, "families": opened.samples.family_ids,
            "dosage": opened.read_dosages(np.arange(opened.n_variants))}  # fmt: skip


def check_fileset(found: Any, whole: Any, path: Path) -> str:
    """Decode the damaged bytes again, person by person."""
    folder = path.parent
    bim = [line.split() for line in words(folder / "set.bim") if line.split()]
    fam = [line.split() for line in words(folder / "set.fam") if line.split()]
    raw = (folder / "set.bed").read_bytes()
    width = -(-len(fam) // 4)
    if len(raw) != 3 + width * len(bim):
        return "a .bed of the wrong size was read"
    if list(found["ids"]) != [line[1] for line in fam]:
        return "other people"
    if found["base_pair_location"] != [int(line[3]) for line in bim]:
        return "other positions"
    effects = dict(line.split() for line in words(folder / "alleles.txt") if line.split())
    dosage = np.full((len(bim), len(fam)), np.nan)
    for row, line in enumerate(bim):
        allele = effects.get(line[1], line[4])
        for person in range(len(fam)):
            code = raw[3 + row * width + person // 4] >> 2 * (person % 4) & 3
            copies = {0: 2.0, 2: 1.0, 3: 0.0, 1: math.nan}[code]
            dosage[row, person] = copies if allele == line[4] else 2 - copies
        if found["effect_allele"][row] != allele:
            return "another effect allele"
    return "" if equal(np.asarray(found["dosage"], float), dosage) else "other genotypes"


def words(path: Path) -> list[str]:
    """Lines of a damaged text, ended as the readers say: LF and CRLF."""
    text = path.read_bytes().decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    return text.split("\n")


# --- tables -------------------------------------------------------------------------------------

IDS = [f"person{i}" for i in range(12)]


def latents() -> pd.DataFrame:
    values = np.random.default_rng(2).normal(size=(12, 3)).round(4)
    frame = pd.DataFrame(values, columns=["z0", "z1", "z2"])
    frame.insert(0, "IID", IDS)
    frame.loc[4, "z1"] = np.nan
    return frame


def make_latents(folder: Path) -> None:
    frame = latents()
    frame.to_csv(folder / "z.tsv", sep="\t", index=False, na_rep="NA")
    frame.to_csv(folder / "z.csv", index=False, na_rep="NA")
    (folder / "z.txt").write_text(frame.to_string(index=False, na_rep="NA"))
    (folder / "z.tsv.gz").write_bytes(gzip.compress((folder / "z.tsv").read_bytes(), mtime=0))
    frame.to_parquet(folder / "z.parquet", write_page_checksum=True)
    np.save(folder / "z.npy", frame[["z0"]].to_numpy(), allow_pickle=False)
    np.savez(folder / "z.npz", z=frame[["z0"]].to_numpy())


def read_latents(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        table = imgwas.read_latents(folder / name)
        return {"ids": table.sample_ids, "names": table.names, "values": table.values}

    return read


def refused(folder: Path) -> Any:
    """Arrays hold no ids: they are refused, damaged or not."""
    said = []
    for name in ("z.npy", "z.npz"):
        try:
            imgwas.read_latents(folder / name)
        except imgwas.ImgwasError:
            said.append(name)
    return said if len(said) == 2 else "an array was read"


def cells_of(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a delimited text, split by the plainest rule that fits its header."""
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode()
    lines = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n").split("\n")
    if "\t" in lines[0]:
        # a tab-separated header over rows without tabs means rows of spaces
        spaced = not any("\t" in line for line in lines[1:])
        rows = [line.split() if spaced and i else line.split("\t") for i, line in enumerate(lines)]
    elif "," in lines[0]:
        rows = list(csv.reader(lines))
    else:
        rows = [line.split() for line in lines]
    return [one.strip().strip('"') for one in rows[0]], rows[1:]


def number(text: str) -> float:
    text = text.strip()
    missing = {"NA", "nan", "NaN", "Nan", "NAN", "", "N/A", "."}
    return math.nan if text in missing else float(text)


def check_cells(found: Any, whole: Any, path: Path) -> str:
    """Compare every id and number with the text."""
    header, rows = cells_of(path)
    if any(len(row) != len(header) for row in rows):
        return "ragged lines were read"
    usual = ("iid", "#iid", "sample_id", "eid", "n_eid", "subject_id", "participant_id", "id")
    lower = [name.lower() for name in header]
    at = next(lower.index(name) for name in usual if name in lower)
    if list(found["ids"]) != [row[at].strip() for row in rows]:
        return "other ids"
    for column, name in enumerate(found["names"]):
        place = header.index(name)
        values = np.array([number(row[place]) for row in rows])
        if not np.allclose(found["values"][:, column], values, rtol=1e-15, equal_nan=True):
            return f"other numbers in {name}"
    return ""


def check_parquet(found: Any, whole: Any, path: Path) -> str:
    """Pages have checksums; the footer, which has names and places, has none."""
    if not columns_of(found) <= columns_of(whole):
        return "other numbers"
    return "" if found["ids"] == whole["ids"] else "other ids"


def columns_of(read: Any) -> set[tuple[str, ...]]:
    return {tuple(map(str, column)) for column in read["values"].T.round(9)}


def make_covariates(folder: Path) -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"IID": IDS, "age": rng.normal(60, 5, 12).round(2)})
    frame["centre"] = rng.choice(["leeds", "york", "hull"], 12)
    frame.to_csv(folder / "c.tsv", sep="\t", index=False)


def read_covariates(folder: Path) -> Any:
    table = imgwas.read_covariates(folder / "c.tsv", formula="age + age^2 + C(centre)")
    return {"ids": table.sample_ids, "names": table.names, "values": table.values}


def check_covariates(found: Any, whole: Any, path: Path) -> str:
    header, rows = cells_of(path)
    age = np.array([number(row[header.index("age")]) for row in rows])
    if "age" in found["names"]:
        values = found["values"][:, found["names"].index("age")]
        if not np.allclose(values, age, rtol=1e-12, equal_nan=True):
            return "other ages"
    return "" if len(found["ids"]) == len(rows) else "other rows"


def make_lists(folder: Path) -> None:
    (folder / "keep.txt").write_text("#FID IID\n" + "".join(f"0 {one}\n" for one in IDS))
    rows = "".join(f"{one}\t0\timg/{one}.nii.gz\n" for one in IDS)
    (folder / "images.tsv").write_text("sample_id\tvisit\tpath\n" + rows)


def read_lists(folder: Path) -> Any:
    from imgwas.images.manifest import read_image_list

    people = read_id_list(folder / "keep.txt")
    images = read_image_list(folder / "images.tsv")
    return {"people": people.sample_ids, "images": tuple(str(f.path) for f in images.files)}


YAML = """encoder:
  latents: 16
  grid: [12, 14, 10]
  channels: 4
train: {rate: 1e-3, epochs: "7", threads: 2}
"""
RECIPE = """steps:
  - reorient
  - zscore: {background: zero}
  - crop-or-pad:
      grid: [12, 14, 10]
"""


def make_yaml(folder: Path) -> None:
    (folder / "train.yaml").write_text(YAML)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "filters.yaml").write_text("maf: 0.01\nhwe: 1e-6\nnonfounders: true\n")


def read_settings(folder: Path) -> Any:
    from imgwas_cli.train import _settings

    from imgwas.genotypes import VariantFilters
    from imgwas.images.recipe import Recipe

    given = {"settings": (), "train_settings": (), "threads": None}
    encoder, train = _settings({"config": folder / "train.yaml", **given})
    steps = Recipe.read(folder / "recipe.yaml").as_json()
    filters = build(VariantFilters, read_yaml(folder / "filters.yaml"))
    return {"filters": vars(filters), "steps": steps, "train": train, "encoder": encoder}


# --- images and encoders ------------------------------------------------------------------------


def make_images(folder: Path) -> None:
    write_nifti(folder / "v.nii", blob((4, 5, 3)))
    write_nifti(folder / "w.nii.gz", blob((4, 5, 3)).astype(np.int16))


def read_images(folder: Path) -> Any:
    from imgwas.images.nifti import read_volume

    found = [read_volume(folder / name) for name in ("v.nii", "w.nii.gz")]
    return [(volume.values, volume.affine) for volume in found]


def check_images(found: Any, whole: Any, path: Path) -> str:
    """Packed files have a checksum; of plain ones the voxels must be those nibabel reads."""
    if path.name.endswith(".gz"):
        return same(found, whole, path)
    values = np.asarray(nib.load(path).get_fdata(), np.float32)
    return "" if equal(found[0][0].reshape(values.shape), values) else "other voxels"


def make_encoder(folder: Path) -> None:
    import torch

    from imgwas.encoders.catalogue import create_encoder
    from imgwas.encoders.checkpoints import save_encoder

    torch.manual_seed(0)
    settings = {"grid": (16, 16, 16), "latents": 2, "width": 2, "levels": 2}
    encoder = create_encoder("udip", settings, affine=np.eye(4))
    save_encoder(folder, encoder, recipe=None)


def read_encoder(folder: Path) -> Any:
    loaded = imgwas.load_encoder(folder)
    return {
        "digest": loaded.digest,
        "state": {k: v.numpy() for k, v in loaded.encoder.state().items()},
    }


# --- results ------------------------------------------------------------------------------------


def make_scan(folder: Path) -> None:
    write_cohort(folder)
    words = ("associate", "--bfile", "cohort", "--latents", "latents.tsv", "--covar", "covar.tsv",
             "--out", "out", "--part-size", "16", "--threads", "1", "--quiet")  # fmt: skip
    done = command_line(*words, folder=folder)
    assert done.code == 0, done.text
    for extra in ("cohort.bed", "cohort.bim", "cohort.fam", "latents.tsv", "covar.tsv"):
        (folder / extra).unlink()


def read_scan(folder: Path) -> Any:
    results = imgwas.open_sumstats(folder / "out")
    problems = results.verify()
    if problems:
        raise imgwas.ImgwasError("; ".join(problems))
    tables = [results.latent(name).to_dict("list") for name in results.latents]
    top = results.top(neg_log10_p=1).to_dict("list")
    text = [json.dumps(table, default=str) for table in (*tables, top)]
    correlation = results.latent_correlation().to_numpy()
    return {"latents": results.latents, "n": results.n_variants, "text": text, "c": correlation}


def make_unfinished(folder: Path) -> None:
    make_scan(folder)
    (folder / "out/RUN_COMPLETE.json").unlink()


def read_unfinished(folder: Path) -> Any:
    """The same without the last file: what a resuming run trusts."""
    from imgwas.association import folder as runs

    run = json.loads((folder / "out/run.json").read_text())
    finished = runs.finished_parts(folder / "out", run["n_parts"], run["digest"])
    results = imgwas.open_sumstats(folder / "out", allow_partial=True)
    shas = {part: imgwas.files.sha256_of(results.parts[0].parent / f"part-{part:05d}.parquet")
            for part in finished}  # fmt: skip
    return {"finished": finished, "shas": shas}


def check_unfinished(found: Any, whole: Any, path: Path) -> str:
    """A part that counts as finished is the part that was written."""
    wrong = [part for part in found["shas"] if found["shas"][part] != whole["shas"].get(part)]
    return f"damaged parts {wrong} count as finished" if wrong else ""


# --- files of genetics --------------------------------------------------------------------------

GTF = """#!genome-build GRCh38
1\thavana\tgene\t100\t2000\t.\t+\t.\tgene_id "E1"; gene_name "AAA"; gene_biotype "protein_coding";
1\thavana\tgene\t3000\t4000\t.\t-\t.\tgene_id "E2"; gene_name "BBB"; gene_biotype "lncRNA";
X\thavana\tgene\t500\t900\t.\t+\t.\tgene_id "E3"; gene_name "CCC"; gene_biotype "protein_coding";
"""


def make_genes(folder: Path) -> None:
    (folder / "genes.gtf").write_text(GTF)
    (folder / "genes.bed").write_text("chr1\t99\t2000\tAAA\t0\t+\nchrX\t499\t900\tCCC\t0\t-\n")
    (folder / "genes.txt").write_text("1 100 2000 AAA\n1 3000 4000 BBB\n23 500 900 CCC\n")
    (folder / "genes.gtf.gz").write_bytes(gzip.compress(GTF.encode(), mtime=0))


def read_all_genes(folder: Path) -> Any:
    names = ("genes.gtf", "genes.bed", "genes.txt", "genes.gtf.gz")
    return [imgwas.read_genes(folder / name).name for name in names]


def make_statistics(folder: Path) -> None:
    rng = np.random.default_rng(5)
    m = 15
    frame = pd.DataFrame({
        "chromosome": [1] * m, "base_pair_location": range(100, 100 + m),
        "effect_allele": ["A"] * m, "other_allele": ["G"] * m,
        "beta": rng.normal(0, 0.1, m).round(4),
        "standard_error": rng.uniform(0.05, 0.1, m).round(4),
        "effect_allele_frequency": rng.uniform(0.1, 0.9, m).round(3),
        "p_value": rng.random(m).round(5), "variant_id": [f"rs{i}" for i in range(m)],
        "n": [5000] * m,
    })  # fmt: skip
    frame.to_csv(folder / "study.tsv", sep="\t", index=False)
    frame.to_csv(folder / "study.tsv.gz", sep="\t", index=False)


def read_studies(folder: Path) -> Any:
    return [imgwas.read_statistics(folder / n).z for n in ("study.tsv", "study.tsv.gz")]


TARGETS = FORMAT_TARGETS | {
    target.name: target
    for target in (
        Target("fileset", ("set.bed", "set.bim", "set.fam", "alleles.txt"), make_fileset,
               read_fileset, check_fileset),
        Target("tsv", ("z.tsv",), make_latents, read_latents("z.tsv"), check_cells),
        Target("csv", ("z.csv",), make_latents, read_latents("z.csv"), check_cells),
        Target("spaces", ("z.txt",), make_latents, read_latents("z.txt"), check_cells),
        Target("gzip", ("z.tsv.gz",), make_latents, read_latents("z.tsv.gz"), same),
        Target("parquet", ("z.parquet",), make_latents, read_latents("z.parquet"), check_parquet),
        Target("arrays", ("z.npy", "z.npz"), make_latents, refused, same),
        Target("covariates", ("c.tsv",), make_covariates, read_covariates, check_covariates),
        Target("lists", ("keep.txt", "images.tsv"), make_lists, read_lists, anything),
        Target("yaml", ("train.yaml", "recipe.yaml", "filters.yaml"), make_yaml,
               read_settings, anything),
        Target("nifti", ("v.nii", "w.nii.gz"), make_images, read_images, check_images),
        Target("encoder", ("encoder.safetensors", "encoder.json"), make_encoder, read_encoder,
               same),
        Target("scan", ("out/parts/part-00001.parquet", "out/run.json", "out/RUN_COMPLETE.json",
                        "out/latent_correlation.parquet"), make_scan, read_scan, same),
        Target("resume", ("out/parts/part-00001.parquet", "out/parts/part-00001.ok.json"),
               make_unfinished, read_unfinished, check_unfinished),
        Target("genes", ("genes.gtf", "genes.bed", "genes.txt", "genes.gtf.gz"), make_genes,
               read_all_genes, anything),
        Target("statistics", ("study.tsv", "study.tsv.gz"), make_statistics, read_studies,
               anything),
    )
}  # fmt: skip
