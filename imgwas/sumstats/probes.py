"""What random vectors say about the relationships of the people of a scan, and its file.

With standardised genotypes ``g_j`` and a random vector ``b`` of +1 and -1, mean and covariates
removed, ``v_c = sum over block c of g_j g_j'b`` for each jackknife block ``c`` of variants. The
products ``v_c'v_d`` give the scale of the relationship matrix with any block left out, which is all
that Haseman-Elston regression needs of the genotypes beside the scan's own statistics.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import IncompleteError, MalformedError, explain
from imgwas.shapes import Float64, Int64

#: File of a scan's folder that holds them.
PROBES = "heritability_probes.npz"
#: People of their own on these chromosomes, so they are no part of a heritability.
NOT_AUTOSOMES = ("X", "Y", "XY", "MT")
#: What a scan uses: variants above this frequency, jackknife blocks, seed of the vectors.
MIN_MAF, N_BLOCKS, SEED = 0.01, 100, 0
#: Bytes of the sums of all blocks and probes; with more people, fewer probes are needed.
PROBE_MEMORY = 2**31
#: The error of kappa falls with people x probes; so many leave about 1.4 per cent of it.
ENOUGH, FEWEST_PROBES = 20_000, 4


@dataclass(frozen=True)
class ProbeSums:
    """What random vectors say about the relationship matrix, per jackknife block of variants.

    With ``v_c = sum over block c of g_j g_j'b``.

    Parameters
    ----------
    inner : (probes, blocks, blocks) float array
        ``v_c'v_d``.
    linear : (probes, blocks) float array
        ``b'v_c``.
    length : (probes,) float array
        ``b'b``, mean and covariates removed.
    n : int
        Dimensions left by mean and covariates.
    """

    inner: Float64[np.ndarray, "probes blocks blocks2"]
    linear: Float64[np.ndarray, "probes blocks"]
    length: Float64[np.ndarray, " probes"]
    n: int

    def kappa(self, counts: Int64[np.ndarray, " blocks"], left_out: int = -1) -> np.ndarray:
        """Mean squared correlation beyond chance, by probe, with one block left out."""
        used = np.arange(len(counts)) != left_out
        share = self.n / counts[used].sum()
        inner = self.inner[:, used][:, :, used].sum(axis=(1, 2))
        linear = self.linear[:, used].sum(axis=1)
        return np.asarray((share**2 * inner - 2 * share * linear + self.length) / self.n**2)

    def take(self, blocks: np.ndarray) -> ProbeSums:
        """Sums of some blocks."""
        inner = self.inner[:, blocks][:, :, blocks]
        return ProbeSums(inner, self.linear[:, blocks], self.length, self.n)

    @classmethod
    def of_sums(
        cls,
        sums: Callable[[int], np.ndarray],
        probes: Float64[np.ndarray, "samples probes"],
        basis: Float64[np.ndarray, "samples covariates"],
        n_blocks: int,
    ) -> ProbeSums:
        """Multiply the sums of all blocks, one probe at a time.

        Parameters
        ----------
        sums : callable
            Gives ``v_c`` of a probe, (blocks, samples), before mean and covariates are removed:
            their share is taken off the products.
        probes : (samples, probes) float array
            Random vectors, mean and covariates removed.
        basis : (samples, covariates) float array
            Centred orthonormal covariates.
        n_blocks : int
            Jackknife blocks.
        """
        n = len(probes)
        inner = np.empty((probes.shape[1], n_blocks, n_blocks))
        linear = np.empty((probes.shape[1], n_blocks))
        removed = np.column_stack([np.full(n, 1 / np.sqrt(n)), basis])
        for probe in range(probes.shape[1]):
            some = np.asarray(sums(probe), np.float64)
            along = some @ removed
            inner[probe] = some @ some.T - along @ along.T
            linear[probe] = some @ probes[:, probe]
        return cls(inner, linear, np.square(probes).sum(axis=0), n - removed.shape[1])


def number_of_probes(n: int, n_blocks: int, wanted: int | None = None) -> int:
    """Random vectors for some people: 4, more below 5,000, as many as memory allows."""
    wanted = wanted or max(FEWEST_PROBES, -(-ENOUGH // max(n, 1)))
    fits = PROBE_MEMORY // (4 * max(n, 1) * n_blocks)
    return int(max(min(wanted, fits), min(wanted, FEWEST_PROBES)))


def random_signs(n: int, n_probes: int, seed: int) -> Float64[np.ndarray, "samples probes"]:
    """Vectors of +1 and -1, nothing removed."""
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(n, n_probes))


@dataclass(frozen=True)
class StoredProbes:
    """The file of a scan.

    Parameters
    ----------
    sums : ProbeSums
        Of the largest group of people.
    counts : (blocks,) int array
        Variants of each block that were used.
    first_rows : (blocks,) int array
        Row of the genotype file where each block begins.
    digest : str
        Of the run.
    """

    sums: ProbeSums
    counts: Int64[np.ndarray, " blocks"]
    first_rows: Int64[np.ndarray, " blocks"]
    digest: str

    def encode(self) -> bytes:
        """Bytes of the file: arrays of NumPy in a zip archive with checksums."""
        stream = io.BytesIO()
        np.savez(
            stream, inner=self.sums.inner, linear=self.sums.linear, length=self.sums.length,
            n=np.int64(self.sums.n), counts=self.counts, first_rows=self.first_rows,
            digest=np.array(self.digest),
        )  # fmt: skip
        return stream.getvalue()

    @classmethod
    def read(cls, folder: Path) -> StoredProbes:
        """Read the file of a scan's folder.

        Raises
        ------
        IncompleteError
            If the scan was made without ``--heritability``.
        MalformedError
            If the file is damaged.
        """
        path = folder / PROBES
        if not path.exists():
            raise IncompleteError(
                explain(f"{folder} has no {PROBES}", expected="imgwas associate --heritability "
                        "writes it", do="Give the genotypes: imgwas heritability reads them")
            )  # fmt: skip
        try:
            with np.load(path, allow_pickle=False) as file:
                found: dict[str, Any] = {name: file[name] for name in file.files}
            sums = ProbeSums(found["inner"], found["linear"], found["length"], int(found["n"]))
            return cls(sums, found["counts"], found["first_rows"], str(found["digest"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise MalformedError(
                explain(
                    f"{path} cannot be read ({str(error)[:120]})",
                    do="Run the same imgwas associate command again: it writes it anew",
                )
            ) from error
