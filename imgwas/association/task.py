"""What one part of a scan needs to be computed anywhere: in a thread, a process, another machine.

A :class:`ScanTask` holds names, settings and the projected traits, never the genotype matrix. Saved
to a private folder it is a few arrays that workers map into memory read-only, so nothing large
travels through a scheduler.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from imgwas import native
from imgwas.arrow import string_scalar, to_numpy
from imgwas.association.blocks import GroupArrays
from imgwas.association.correlation import null_correlation
from imgwas.association.design import Design, restrict
from imgwas.association.integers import MOST_PEOPLE, Panels
from imgwas.association.kernel import MissingPolicy
from imgwas.association.probing import jackknife_blocks, with_probes
from imgwas.files import publish, publish_json, read_json
from imgwas.genotypes.counts import pack_mask, unpack_mask
from imgwas.genotypes.filters import VariantFilters
from imgwas.genotypes.variant_table import of_chromosomes
from imgwas.scratch import follow
from imgwas.sumstats.joint import OmnibusTest
from imgwas.types import Genotypes, PackedGenotypes

#: Kinds of variant that need their own design.
AUTOSOME, X, Y = "autosome", "X", "Y"
#: Blocks of whole-number products that are computed as one, and bytes of genotypes in them.
BLOCKS_AT_ONCE, BYTES_AT_ONCE = 4, 16 << 20
#: Below this share of people in use, the others are cut out of every block before decoding.
COMPACT_BELOW = 0.7


@dataclass(frozen=True)
class ScanSettings:
    """Choices that change numbers; part of the digest of a run."""

    missing_genotype: MissingPolicy = "mean"
    precision: str = "single"
    part_size: int = 16384
    block_size: int = 384
    rank_normal: bool = False
    residualize_first: bool = False
    filters: VariantFilters = field(default_factory=VariantFilters)
    omnibus: bool = False
    heritability: bool = False
    set_hh_missing: bool = False
    device: str = "cpu"

    def described(self) -> dict[str, Any]:
        """Fields for ``run.json``; what is off and came later is left out, as older runs do."""
        kind = self.device.split(":")[0]  # which of several is no matter of numbers
        later = {
            "omnibus": self.omnibus,
            "heritability": self.heritability,
            "set_hh_missing": self.set_hh_missing,
            "device": kind != "cpu",
        }
        fields = asdict(self) | {"device": kind}
        fields = {name: value for name, value in fields.items() if later.get(name, True)}
        return fields | {"filters": self.filters.described()}

    @property
    def dtype(self) -> type[np.floating]:
        """Floating-point type of the product and of the stored t."""
        return np.float64 if self.precision == "double" else np.float32


@dataclass(frozen=True)
class ScanTask:
    """A scan, ready to be cut into parts.

    Parameters
    ----------
    genotypes : PackedGenotypes or DosageGenotypes
        Re-opened from its paths in another process.
    rows : (variants,) int64 array
        Rows of the genotype file to scan, increasing.
    columns : (people,) int64 array or None
        Columns cut out of each block (None: the blocks keep everyone).
    groups : dict of str to list of GroupArrays
        Per kind of variant, in the layout of the blocks.
    analysed, founders, females, males : packed masks
        In the layout of the blocks.
    names : list of list of str
        Latent names of each group.
    settings : ScanSettings
        Choices that change numbers.
    out : Path
        Folder of the run.
    """

    genotypes: Genotypes
    rows: np.ndarray
    columns: np.ndarray | None
    groups: Mapping[str, list[GroupArrays]]
    masks: Mapping[str, np.ndarray]
    names: list[list[str]]
    settings: ScanSettings
    out: Path

    @property
    def packed_genotypes(self) -> PackedGenotypes:
        """The genotypes, which are two-bit codes."""
        assert isinstance(self.genotypes, PackedGenotypes)
        return self.genotypes

    @property
    def n_parts(self) -> int:
        """Number of parts, decided by the variants and the part size alone."""
        return -(-len(self.rows) // self.settings.part_size)

    def part_range(self, part: int) -> tuple[int, int]:
        """First and one-past-last position of a part within ``rows``."""
        start = part * self.settings.part_size
        return start, min(start + self.settings.part_size, len(self.rows))

    def blocks(self, part: int) -> Iterator[np.ndarray]:
        """Rows of the genotype file, block by block."""
        start, stop = self.part_range(part)
        for at in range(start, stop, self.block_size):
            yield self.rows[at : min(at + self.block_size, stop)]

    @property
    def multiplies_integers(self) -> bool:
        """Whether the compiled product of hard calls is used here."""
        settings = self.settings
        plain = settings.precision == "single" and settings.device == "cpu"
        fits = 4 * self.n_bytes <= MOST_PEOPLE
        return plain and fits and self.has_calls and native.library() is not None

    @cached_property
    def block_size(self) -> int:
        """Variants computed together: only last bits of sums for heritability depend on it.

        A product of integers needs no buffer of decoded people, so more variants may share what a
        block costs beside its products.
        """
        settings = self.settings
        if not self.multiplies_integers or settings.missing_genotype == "drop":
            return settings.block_size
        room = BYTES_AT_ONCE // max(settings.block_size * self.n_bytes, 1)
        return settings.block_size * max(1, min(room, BLOCKS_AT_ONCE))

    @cached_property
    def matrices(self) -> dict[str, list[np.ndarray]]:
        """Right-hand sides of the block product, made once per process."""
        dtype = self.settings.dtype
        return {
            kind: [group.product_matrix(dtype) for group in groups]
            for kind, groups in self.groups.items()
        }

    @cached_property
    def kinds(self) -> np.ndarray:
        """Kind of every scanned variant, see :func:`variant_kinds`."""
        return of_chromosomes(self.genotypes.variants, self.rows, variant_kinds, np.int8)

    @cached_property
    def jackknife(self) -> np.ndarray:
        """Jackknife block of every scanned variant, -1 for none; empty if heritability is off."""
        if not self.settings.heritability:
            return np.empty(0, np.int64)
        return jackknife_blocks(self.genotypes.variants, self.rows)

    @cached_property
    def omnibus(self) -> dict[str, OmnibusTest]:
        """Tests of all latents at once by kind of variant, made once per process; empty if off."""
        if not self.settings.omnibus:
            return {}
        numbers = [index for index, names in enumerate(self.names) for _ in names]
        return {
            kind: OmnibusTest(
                null_correlation([group.traits for group in groups]),
                numbers,
                n=max(group.n for group in groups),
                dof=groups[0].dof,
                single=self.settings.precision == "single",
            )
            for kind, groups in self.groups.items()
        }

    @cached_property
    def panels(self) -> Panels:
        """Matrices of the product as whole numbers, made once per process when asked for."""
        return Panels()

    @property
    def has_calls(self) -> bool:
        """Whether genotypes are hard calls."""
        return isinstance(self.genotypes, PackedGenotypes)

    @cached_property
    def people(self) -> dict[str, np.ndarray]:
        """Masks of people one by one, in the layout of the blocks, made once per process."""
        return {name: unpack_mask(mask) for name, mask in self.masks.items()}

    @property
    def n_bytes(self) -> int:
        """Bytes of a packed variant in the layout of the blocks."""
        return len(self.masks["analysed"])


def variant_kinds(chromosomes: Any) -> np.ndarray:
    """Number 0 for autosomes and everything diploid, 1 for X, 2 for Y, 3 for mitochondria."""
    import pyarrow.compute as pc

    is_x = to_numpy(pc.equal(chromosomes, string_scalar("X")))
    is_y = to_numpy(pc.equal(chromosomes, string_scalar("Y")))
    is_mt = to_numpy(pc.equal(chromosomes, string_scalar("MT")))
    kinds = [np.int8(1), np.int8(2), np.int8(3)]
    return np.select([is_x, is_y, is_mt], kinds, np.int8(0))


def make_task(
    genotypes: Genotypes, design: Design, rows: np.ndarray, settings: ScanSettings, out: Path
) -> ScanTask:
    """Lay the design out over the bytes of the genotype file."""
    layout = _Layout.choose(genotypes.n_samples, design.sample_columns)
    sex = genotypes.samples.sex[design.sample_columns]
    kinds = of_chromosomes(genotypes.variants, rows, variant_kinds, np.int8)
    designs = {AUTOSOME: design}
    if (kinds == 1).any():
        designs[X] = restrict(design, sex > 0, extra=(sex == 1).astype(np.float64))
    if (kinds == 2).any():
        designs[Y] = restrict(design, sex == 1)
    founders = genotypes.samples.is_founder[design.sample_columns]
    everyone = np.ones(len(sex), bool)
    groups = {kind: layout.groups(d) for kind, d in designs.items()}
    if settings.heritability:
        groups[AUTOSOME] = with_probes(groups[AUTOSOME])
    masks = {"analysed": everyone, "founders": founders, "females": sex == 2, "males": sex == 1}
    task = ScanTask(
        genotypes=genotypes,
        rows=rows,
        columns=layout.columns,
        groups=groups,
        masks={name: layout.mask(mask) for name, mask in masks.items()},
        names=[list(group.names) for group in design.groups],
        settings=settings,
        out=out,
    )
    vars(task)["kinds"] = kinds  # which are known already
    return task


@dataclass(frozen=True)
class _Layout:
    """Where each analysed person sits in a block."""

    positions: np.ndarray
    n_people: int
    columns: np.ndarray | None

    @classmethod
    def choose(cls, n_file: int, sample_columns: np.ndarray) -> _Layout:
        if len(sample_columns) < COMPACT_BELOW * n_file:
            n = len(sample_columns)
            return cls(np.arange(n), -(-n // 4) * 4, sample_columns)
        return cls(sample_columns, -(-n_file // 4) * 4, None)

    def mask(self, people: np.ndarray) -> np.ndarray:
        full = np.zeros(self.n_people, bool)
        full[self.positions] = people
        return pack_mask(full)

    def spread(self, values: np.ndarray) -> np.ndarray:
        full = np.zeros((self.n_people, values.shape[1]))
        full[self.positions] = values
        return full

    def groups(self, design: Design) -> list[GroupArrays]:
        return [
            GroupArrays(
                traits=self.spread(group.traits),
                basis=self.spread(group.basis),
                trait_scale=group.scale,
                mask=self.mask(group.used),
                n=group.n,
                rank=group.rank,
            )
            for group in design.groups
        ]


def compact(packed: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Keep some people of a packed block, packed again; padding people have code 00."""
    shift = ((columns & 3) * 2).astype(np.uint8)
    codes = (packed[:, columns >> 2] >> shift) & 3
    pad = -len(columns) % 4
    if pad:
        codes = np.concatenate([codes, np.zeros((len(codes), pad), np.uint8)], axis=1)
    quads = codes.reshape(len(codes), -1, 4)
    return np.asarray(
        quads[..., 0] | quads[..., 1] << 2 | quads[..., 2] << 4 | quads[..., 3] << 6, np.uint8
    )


def save_task(task: ScanTask, folder: Path) -> None:
    """Write the arrays of a task where workers can map them; people's data, so mode 0700."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {"rows": task.rows}
    if task.columns is not None:
        arrays["columns"] = task.columns
    arrays |= {f"mask.{name}": mask for name, mask in task.masks.items()}
    shapes: dict[str, list[dict[str, int]]] = {}
    for kind, groups in task.groups.items():
        shapes[kind] = [{"n": group.n, "rank": group.rank} for group in groups]
        for index, group in enumerate(groups):
            arrays[f"{kind}.{index}.traits"] = group.traits
            arrays[f"{kind}.{index}.basis"] = group.basis
            arrays[f"{kind}.{index}.scale"] = group.trait_scale
            if group.mask is not None:
                arrays[f"{kind}.{index}.mask"] = group.mask
            if group.probes is not None:
                arrays[f"{kind}.{index}.probes"] = group.probes
    for name, array in arrays.items():
        with publish(folder / f"{name}.npy") as stream:
            np.save(stream, array, allow_pickle=False)
    description = {"settings": asdict(task.settings), "groups": shapes, "names": task.names}
    publish_json(folder / "task.json", description | {"arrays": sorted(arrays)})


@lru_cache(maxsize=2)
def load_task(
    folder: Path,
    out: Path,
    genotypes: Genotypes,
    digest: str,  # noqa: ARG001 - of the cache
) -> ScanTask:
    """Map a saved task; one copy per process serves all parts of the run of this digest.

    Workers outlive runs, and another run may save its task in the same folder.
    """
    description = read_json(folder / "task.json")
    names = description["arrays"]
    arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in names}
    settings = dict(description["settings"])
    settings["filters"] = VariantFilters(**settings["filters"])
    groups = {
        kind: [
            GroupArrays(
                traits=arrays[f"{kind}.{i}.traits"],
                basis=arrays[f"{kind}.{i}.basis"],
                trait_scale=arrays[f"{kind}.{i}.scale"],
                mask=arrays.get(f"{kind}.{i}.mask"),
                n=shape["n"],
                rank=shape["rank"],
                probes=arrays.get(f"{kind}.{i}.probes"),
            )
            for i, shape in enumerate(shapes)
        ]
        for kind, shapes in description["groups"].items()
    }
    return ScanTask(
        genotypes=genotypes,
        rows=np.asarray(follow(arrays["rows"])),
        columns=arrays.get("columns"),
        groups=groups,
        masks={n.removeprefix("mask."): a for n, a in arrays.items() if n.startswith("mask.")},
        names=description["names"],
        settings=ScanSettings(**settings),
        out=out,
    )
