"""The files that are damaged, and an independent reading of each that is not checksummed."""

from __future__ import annotations

import csv
import gzip
import json
import math
import zipfile
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


# --- what later steps read ----------------------------------------------------------------------

SITES = {
    "variant_id": ["rs1", "rs2", "rs3"], "chromosome": ["1", "1", "X"],
    "base_pair_location": [100, 2000, 30], "effect_allele": ["A", "C", "G"],
    "other_allele": ["G", "T", "A"], "effect_allele_frequency": [0.1, 0.25, 0.5],
}  # fmt: skip
PGS = """###PGS CATALOG SCORING FILE - see https://www.pgscatalog.org/downloads/ for information
#format_version=2.0
#pgs_id=PGS1
#genome_build=GRCh38
rsID\tchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight
rs1\t1\t100\tA\tG\t0.25
rs2\t1\t2000\tC\tT\t-0.5
"""


def make_scores(folder: Path) -> None:
    from imgwas.genetics.polygenic import PolygenicScores
    from imgwas.genetics.polygenic_files import write_scores

    frame = pd.DataFrame(SITES)
    frame.assign(PC1=[0.1, 0.2, -0.3], PC2=[1.0, 0.0, 2.5]).to_csv(
        folder / "pcs.loadings.tsv.gz",
        sep="\t",
        index=False,
        compression={"method": "gzip", "mtime": 0},
    )
    weights = np.array([[0.1, 1], [0.2, 0], [-0.3, 4]])
    write_scores(
        PolygenicScores(frame, weights, ("a", "b"), np.zeros(2), None), folder / "s.parquet"
    )
    (folder / "pgs.txt").write_text(PGS)
    (folder / "pgs.txt.gz").write_bytes(gzip.compress(PGS.encode(), mtime=0))


def read_scores(folder: Path) -> Any:
    found = [imgwas.read_loadings(folder / "pcs.loadings.tsv.gz")]
    found += [imgwas.read_scores(folder / n) for n in ("s.parquet", "pgs.txt", "pgs.txt.gz")]
    return [{"weights": one.weights, "at": list(one.variants["variant_id"])} for one in found]


def check_scores(found: Any, whole: Any, path: Path) -> str:
    """What is packed or has page checksums is as it was, or in columns of another name."""
    if path.suffix == ".gz":
        return same(found, whole, path)
    if path.suffix == ".parquet":
        known = {tuple(column) for column in whole[1]["weights"].T}
        if not {tuple(column) for column in found[1]["weights"].T} <= known:
            return "other weights"
    return ""


def make_loci(folder: Path) -> None:
    from imgwas.genetics import loci_table

    rng = np.random.default_rng(1)
    tables = {"loci": loci_table.COLUMNS, "loci.variants": loci_table.VARIANT_COLUMNS}
    for name, columns in (tables | {"loci.latents": loci_table.PAIR_COLUMNS}).items():
        frame = pd.DataFrame({column: rng.integers(1, 9, 3) for column in columns})
        (folder / f"{name}.tsv").write_text("# imgwas loci\n" + frame.to_csv(sep="\t", index=False))
    (folder / "loci.json").write_text('{"format": "imgwas-loci", "loci": 3, "clump_r2": 0.6}')
    rows = "".join(f"{c}\t{p}\trs{p}\theight\n" for c, p in ((1, 5), (2, 77), ("X", 9)))
    (folder / "known.tsv").write_text("CHR_ID\tCHR_POS\tSNPS\tDISEASE/TRAIT\n" + rows)
    rows = "".join(f"{c}\t{p}\tA\tG\trs{p}\n" for c, p in ((1, 5), (2, 77), ("X", 9)))
    (folder / "rsids.tsv").write_text("chromosome\tposition\tref\talt\trsid\n" + rows)


def read_loci(folder: Path) -> Any:
    from imgwas.sumstats.rsids import read_rsid_map

    read_rsid_map(folder / "rsids.tsv")
    known = imgwas.read_catalogue(folder / "known.tsv")
    return [len(imgwas.read_loci(folder / "loci.tsv").table), len(known.chromosome)]


def make_ld(folder: Path) -> None:
    frame = pd.DataFrame({"CHR": [1] * 5, "SNP": [f"rs{k}" for k in range(5)],
                          "BP": range(5, 10), "L2": [1.5, 2.0, 9.25, 4.0, 1.0]})  # fmt: skip
    packed = gzip.compress(frame.to_csv(sep="\t", index=False).encode(), mtime=0)
    (folder / "1.l2.ldscore.gz").write_bytes(packed)
    (folder / "1.l2.M_5_50").write_text("5\n")


def read_ld(folder: Path) -> Any:
    return imgwas.read_ld_scores(folder).score


def make_people(folder: Path) -> None:
    rows = "".join(f"{one}\t{1 + k % 2}\t{k / 3:.2f}\n" for k, one in enumerate(IDS))
    (folder / "traits.tsv").write_text("IID\tcase\tdose\n" + rows)
    rows = "".join(f"img{k}\t{one}\n" for k, one in enumerate(IDS))
    (folder / "bridge.tsv").write_text("image\tperson\n" + rows)
    (folder / "withdrawn.csv").write_text("".join(f"{one}\n" for one in IDS))
    (folder / "diseases.tsv").write_text("trait\tcode\nasthma\tJ45\nasthma\tJ46\nstroke\tI63\n")


def read_people(folder: Path) -> Any:
    from imgwas.images.bridge import read_bridge, read_withdrawn
    from imgwas.traits.dates import read_definitions

    traits = imgwas.read_traits(folder / "traits.tsv", numbers=["dose"], binary=["case"])
    for trait in traits[1:]:
        assert set(trait.values[np.isfinite(trait.values)]) <= {0, 1}
    read_definitions(folder / "diseases.tsv")
    return [len(read_bridge(folder / "bridge.tsv")), len(read_withdrawn(folder / "withdrawn.csv"))]


def make_atlas(folder: Path) -> None:
    labels = np.zeros((6, 6, 6), np.int16)
    labels[1:3, 1:5, 1:5], labels[3:5, 1:5, 1:5] = 1, 2
    write_nifti(folder / "atlas.nii.gz", labels)
    (folder / "names.tsv").write_text("index\tname\n1\tleft part\n2\tright part\n")
    (folder / "names.json").write_text('{"1": "left part", "2": "right part"}')
    (folder / "names.xml").write_text(
        '<?xml version="1.0"?><atlas><data><label index="0">left</label>'
        '<label index="1">right</label></data></atlas>'
    )


def read_atlases(folder: Path) -> Any:
    names = ("names.tsv", "names.json", "names.xml")
    return [dict(imgwas.read_atlas(folder / "atlas.nii.gz", folder / n).names) for n in names]


# --- archives, stores, DICOM, checkpoints of others ---------------------------------------------


def make_zip(folder: Path) -> None:
    write_nifti(folder / "w.nii.gz", blob((4, 5, 3)))
    with zipfile.ZipFile(folder / "bulk.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("T1/w.nii.gz", (folder / "w.nii.gz").read_bytes())
        archive.writestr("T1/note.txt", "other")


def read_zip(folder: Path) -> Any:
    from imgwas.images.listing import ImageFile
    from imgwas.images.nifti import read_volume

    volume = read_volume(ImageFile("1", folder / "bulk.zip", member="T1/w.nii.gz"))
    return (volume.values, volume.affine)


def make_dicom(folder: Path) -> None:
    from tests.dicoms import encoded, frame, moving_disc

    (folder / "1").mkdir()
    for number in range(3):
        picture = moving_disc((6, 5), (3, 2), 3)[..., number]
        (folder / f"1/{number}.dcm").write_bytes(encoded(frame(picture, number)))


def read_dicom(folder: Path) -> Any:
    from imgwas.images.dicom import read_dicom_cine
    from imgwas.images.listing import ImageFile

    cine = read_dicom_cine(ImageFile("1", folder / "1"), n_frames=3)
    assert cine.values.shape == (6, 5, 1, 3) or cine.values.shape[3] == 3
    return cine.values


def make_checkpoint(folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    tensors = {"a.weight": torch.randn(3, 2), "a.bias": torch.zeros(3)}
    torch.save({"state_dict": tensors, "epoch": 3}, folder / "net.pt")


def read_checkpoint(folder: Path) -> Any:
    from imgwas.encoders.convert import read_tensors

    return {name: tensor.numpy() for name, tensor in read_tensors(folder / "net.pt").items()}


def check_checkpoint(found: Any, whole: Any, path: Path) -> str:
    """Members of the archive have checksums; names and shapes may be other legal ones."""
    if set(found) != set(whole):
        return ""
    values = {name: np.sort(found[name], axis=None) for name in found}
    known = {name: np.sort(whole[name], axis=None) for name in whole}
    return "" if equal(values, known) else "other weights"


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
        Target("scores", ("pcs.loadings.tsv.gz", "s.parquet", "pgs.txt", "pgs.txt.gz"),
               make_scores, read_scores, check_scores),
        Target("zip", ("bulk.zip",), make_zip, read_zip, same),
        Target("dicom", ("1/0.dcm", "1/2.dcm"), make_dicom, read_dicom, anything),
        Target("checkpoint", ("net.pt",), make_checkpoint, read_checkpoint, check_checkpoint),
        Target("loci", ("loci.tsv", "loci.variants.tsv", "loci.json", "known.tsv", "rsids.tsv"),
               make_loci, read_loci, anything),
        Target("ld", ("1.l2.ldscore.gz", "1.l2.M_5_50"), make_ld, read_ld, anything),
        Target("people", ("traits.tsv", "bridge.tsv", "withdrawn.csv", "diseases.tsv"),
               make_people, read_people, anything),
        Target("atlas", ("atlas.nii.gz", "names.tsv", "names.json", "names.xml"), make_atlas,
               read_atlases, anything),
    )
}  # fmt: skip
