"""The vocabulary: frozen types that never part an array from its names.

Genotypes run (variants, samples), the order on disk; everything else runs (samples, things).
Sample ids are strings from the first byte read, so ``007``, ``1e5`` and ``NA`` stay what they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from imgwas.checks import check_finite, check_unique
from imgwas.errors import InconsistentError, MalformedError, explain
from imgwas.shapes import Bool, Float32, Float64, Int8, Int32, Integer, UInt8, UInt16

if TYPE_CHECKING:
    import pandas as pd

#: Columns of :attr:`Genotypes.variants`, in order.
VARIANT_SCHEMA = pa.schema(
    [
        ("chromosome", pa.string()),
        ("base_pair_location", pa.int64()),
        ("variant_id", pa.string()),
        ("effect_allele", pa.string()),
        ("other_allele", pa.string()),
    ]
)


@dataclass(frozen=True)
class Samples:
    """The people of a genotype file, in the order of its columns.

    Parameters
    ----------
    sample_ids, family_ids : sequence of str
        IID and FID. A family id of ``"0"`` means none.
    sex : (samples,) int8 array
        1 male, 2 female, 0 unknown, as PLINK writes it.
    is_founder : (samples,) bool array
        True where no parent is recorded.
    """

    sample_ids: tuple[str, ...]
    family_ids: tuple[str, ...]
    sex: Int8[np.ndarray, " samples"]
    is_founder: Bool[np.ndarray, " samples"]

    def __post_init__(self) -> None:
        n = len(self.sample_ids)
        if not (len(self.family_ids) == len(self.sex) == len(self.is_founder) == n):
            raise InconsistentError("sample ids, family ids, sex and founders differ in length.")

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __repr__(self) -> str:
        return f"Samples({len(self):,} people)"


class Genotypes(ABC):
    """Lazily read genotypes: copies of the effect allele, 0 to 2, missing is missing.

    A ``Genotypes`` holds tables and file names, never the matrix, so that it can be sent to another
    process. Blocks are runs of whole variants: samples are never split.

    Attributes
    ----------
    samples : Samples
        Columns of the matrix, in file order.
    variants : pyarrow.Table
        Rows of the matrix with the columns of ``VARIANT_SCHEMA``. ``effect_allele`` is the allele
        whose copies are counted.
    """

    samples: Samples
    variants: pa.Table
    #: set by ``imgwas.genotypes``: :func:`imgwas.from_pandas_plink`
    from_pandas_plink: ClassVar[Callable[..., Genotypes]]

    @property
    def n_samples(self) -> int:
        """Number of people in the file."""
        return len(self.samples)

    @property
    def n_variants(self) -> int:
        """Number of variants in the file."""
        return int(self.variants.num_rows)

    @property
    def shape(self) -> tuple[int, int]:
        """(variants, samples)."""
        return self.n_variants, self.n_samples

    @abstractmethod
    def read_dosages(self, rows: np.ndarray) -> Float32[np.ndarray, "variants samples"]:
        """Return copies of the effect allele at the given rows; NaN is a missing call."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Identity of the input files: names, sizes, modification times, digests of the tables."""

    @abstractmethod
    def check_unchanged(self) -> None:
        """Raise ``InconsistentError`` if an input file is no longer the one that was opened."""

    def to_pandas(self) -> pd.DataFrame:
        """Return the variant table as a pandas DataFrame."""
        frame: pd.DataFrame = self.variants.to_pandas()
        return frame


class PackedGenotypes(Genotypes):
    """Genotypes that come as PLINK's two-bit codes, four people to a byte.

    Codes, low bits first: ``00`` two copies of the effect allele, ``10`` (binary) one copy,
    ``11`` none, ``01`` missing. This is PLINK 1's code when the effect allele is column 5 of the
    ``.bim``; a reader whose effect allele is column 6 swaps ``00`` and ``11``.
    """

    @abstractmethod
    def read_packed(self, rows: np.ndarray) -> UInt8[np.ndarray, "variants bytes"]:
        """Packed codes at the given rows, ``ceil(n_samples / 4)`` bytes each, padding bits zero."""


#: Code of a missing dosage.
MISSING_DOSAGE = 65535


@dataclass(frozen=True)
class DosageCodes:
    """Dosages of some variants as whole numbers, so that their sums are exact.

    Parameters
    ----------
    dosage : (variants, samples) uint16 array
        Dosage of the effect allele times ``per_copy``; ``MISSING_DOSAGE`` is missing.
    digest : bytes
        SHA-256 of the bytes that were read.
    twice : (variants, samples) uint8 or uint16 array, optional
        Probability of two copies times ``per_copy``, 0 where missing; of formats that have it.
    """

    dosage: UInt16[np.ndarray, "variants samples"]
    digest: bytes
    twice: Integer[np.ndarray, "variants samples"] | None = None

    def take(self, rows: np.ndarray | slice) -> DosageCodes:
        """Only some of the variants."""
        twice = None if self.twice is None else self.twice[rows]
        return DosageCodes(self.dosage[rows], self.digest, twice)


class DosageGenotypes(Genotypes):
    """Genotypes that come as dosages: whole numbers, ``per_copy`` for one copy of an allele.

    Attributes
    ----------
    per_copy : int
        255 for probabilities of eight bits, 16384 for PLINK 2's dosages.
    """

    per_copy: int

    @abstractmethod
    def read_codes(self, rows: np.ndarray) -> DosageCodes:
        """Dosages of some variants, in increasing order of rows."""

    def read_dosages(self, rows: np.ndarray) -> Float32[np.ndarray, "variants samples"]:
        """Copies of the effect allele; NaN is a missing call."""
        codes = self.read_codes(rows).dosage
        dosage = codes.astype(np.float32) / np.float32(self.per_copy)
        dosage[codes == MISSING_DOSAGE] = np.nan
        return dosage


class Images(ABC):
    """Volumes of people on one grid, read one at a time; never all in memory.

    Like :class:`Genotypes`, it holds tables and file names only and can be sent to another process.

    Attributes
    ----------
    sample_ids : tuple of str
        Whose image each index is, unique, as in the genotype file.
    grid : tuple of int
        Voxels along each axis: (x, y, z), or (x, y, z, frames) for a cine.
    affine : (4, 4) float array
        Voxel indices to millimetres, RAS+, the same for everyone.
    """

    sample_ids: tuple[str, ...]
    grid: tuple[int, ...]
    affine: Float64[np.ndarray, "4 4"]

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} people, grid {self.grid})"

    @abstractmethod
    def read(self, index: int) -> Float32[np.ndarray, " *grid"]:
        """Return one person's volume of shape ``grid``: finite, as it was prepared.

        Raises
        ------
        MalformedError
            If the file is damaged or no longer on the grid; the message names it.
        """

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Identity of the input: file names, sizes, modification times, how it was prepared."""


@dataclass(frozen=True)
class Latents:
    """Latent traits of people: what the scan explains.

    Parameters
    ----------
    values : (samples, latents) float array
        NaN is missing; infinite values are refused.
    sample_ids : tuple of str
        IID of each row, unique unless ``family_ids`` tell the rows apart.
    names : tuple of str
        Unique name of each latent.
    family_ids : tuple of str, optional
        FID of each row where the file had one.
    source : mapping
        Where the latents come from (file, digest, encoder and weights hash when known).
    """

    values: Float64[np.ndarray, "samples latents"]
    sample_ids: tuple[str, ...]
    names: tuple[str, ...]
    family_ids: tuple[str, ...] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_labelled("latents", self.values, self.sample_ids, self.names, self.family_ids)

    def __repr__(self) -> str:
        return f"Latents({len(self.sample_ids):,} samples x {len(self.names):,} latents)"


@dataclass(frozen=True)
class Covariates:
    """Nuisance columns of people, categorical columns already expanded, no intercept.

    Parameters
    ----------
    values : (samples, covariates) float array
        NaN is missing: such a person is left out of the scan.
    sample_ids, names, family_ids
        As in :class:`Latents`.
    terms : tuple of str
        The term of the formula or the source column each covariate was made from.
    """

    values: Float64[np.ndarray, "samples covariates"]
    sample_ids: tuple[str, ...]
    names: tuple[str, ...]
    family_ids: tuple[str, ...] | None = None
    terms: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_labelled("covariates", self.values, self.sample_ids, self.names, self.family_ids)

    def __repr__(self) -> str:
        return f"Covariates({len(self.sample_ids):,} samples x {len(self.names):,} columns)"


@dataclass(frozen=True)
class Atlas:
    """Named regions on a grid.

    Parameters
    ----------
    labels : (x, y, z) int32 array
        Number of the region of each voxel; 0 is no region.
    affine : (4, 4) float array
        Voxel indices to millimetres, RAS+.
    names : mapping of int to str
        Name of every number that occurs; names are unique.
    hemispheres : mapping of int to str
        ``"L"``, ``"R"`` or ``""`` (on both sides) of every number, told by where its voxels lie.
    source : str
        Where it comes from: a file name and what was done to it.
    """

    labels: Int32[np.ndarray, " *grid"]
    affine: Float64[np.ndarray, "4 4"]
    names: Mapping[int, str]
    hemispheres: Mapping[int, str]
    source: str = ""

    @property
    def grid(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(self.labels.shape)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Region numbers in ascending order, 0 left out."""
        return tuple(sorted(self.names))

    def __repr__(self) -> str:
        return f"Atlas({len(self.names)} regions, grid {'x'.join(map(str, self.grid))})"


@dataclass(frozen=True)
class BrainMap:
    """What moving along a direction of latent space does to every voxel.

    Parameters
    ----------
    values : (x, y, z) float32 array
        Signed values; 0 outside the mask.
    mask : (x, y, z) bool array
        Voxels that were looked at.
    affine : (4, 4) float array
        Voxel indices to millimetres, RAS+.
    statistic : str
        ``effect`` (change per unit of the direction), ``z``, ``t`` or ``change`` (a finite step).
    unit : str
        Unit of ``values``, e.g. ``intensity per allele``.
    name : str
        What was moved: a latent, a variant, a trait.
    direction : (latents,) float array
        The move in the units of the latents.
    step : float
        Size of a finite step in SD along the direction; 0 for an exact derivative.
    """

    values: Float32[np.ndarray, " *grid"]
    mask: Bool[np.ndarray, " *grid"]
    affine: Float64[np.ndarray, "4 4"]
    statistic: str
    unit: str
    name: str
    direction: Float64[np.ndarray, " latents"]
    step: float = 0.0

    @property
    def grid(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(self.values.shape)

    def __repr__(self) -> str:
        return f"BrainMap({self.name}: {self.statistic}, {self.unit})"


def _check_labelled(
    what: str,
    values: np.ndarray,
    sample_ids: Sequence[str],
    names: Sequence[str],
    family_ids: Sequence[str] | None,
) -> None:
    if values.shape != (len(sample_ids), len(names)):
        raise InconsistentError(
            explain(
                f"the {what} have shape {values.shape}",
                expected=f"{len(sample_ids):,} sample ids and {len(names):,} names were given",
            )
        )
    check_unique(f"the {what} names", names, error=MalformedError)
    keys = (
        sample_ids
        if family_ids is None
        else [f"{f}\t{i}" for f, i in zip(family_ids, sample_ids, strict=True)]
    )
    if len(set(keys)) != len(keys):
        raise InconsistentError(
            explain(
                f"the {what} hold {len(keys) - len(set(keys)):,} rows whose sample id came before",
                expected="One row per person is needed",
                do="Keep one row per person (one imaging visit) and run again",
            )
        )
    check_finite(f"the {what}", values)
