"""The steps of preparation: each a name, its settings, and what it does to one image.

A step is a frozen dataclass whose fields are its settings and whose ``apply`` returns the changed
:class:`Work`. ``STEPS`` lists them; a recipe is any order of them.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from imgwas.errors import DegenerateError, MissingLibraryError, UsageError, explain
from imgwas.images import intensity as scaling
from imgwas.images import space as lattice
from imgwas.images.listing import ImageFile
from imgwas.images.nifti import Volume, read_volume
from imgwas.images.space import Space, space_of
from imgwas.shapes import Float64


@dataclass(frozen=True)
class Work:
    """An image on its way, and what later steps and the record need to know.

    Parameters
    ----------
    volume : Volume
        As the last step left it.
    file : ImageFile
        Where it came from.
    origin : Space
        Its lattice in the file: FLIRT matrices and masks refer to it.
    moved : (4, 4) float array
        Millimetres of the file to millimetres now; steps that register multiply onto it.
    notes : dict
        Measured on the way, for the record.
    """

    volume: Volume
    file: ImageFile
    origin: Space
    moved: Float64[np.ndarray, "4 4"] = field(default_factory=lambda: np.eye(4))
    notes: dict[str, Any] = field(default_factory=dict)

    def with_values(self, values: np.ndarray, **notes: Any) -> Work:
        """Return the work with other intensities in the same place."""
        volume = Volume(np.asarray(values, np.float32), self.volume.affine)
        return self.with_volume(volume, **notes)

    def with_volume(self, volume: Volume, **notes: Any) -> Work:
        """Return the work with another volume."""
        return dataclasses.replace(self, volume=volume, notes={**self.notes, **notes})

    def with_move(self, matrix: np.ndarray, **notes: Any) -> Work:
        """Return the work moved by a millimetre-to-millimetre matrix: only the affine changes."""
        volume = Volume(self.volume.values, matrix @ self.volume.affine)
        return dataclasses.replace(
            self, volume=volume, moved=matrix @ self.moved, notes={**self.notes, **notes}
        )


@lru_cache(maxsize=4)
def _template(path: Path) -> Volume:
    return read_volume(path)


def _need(path: Path | None, setting: str) -> Path:
    if path is None:
        raise UsageError(explain(f"{setting} is not set", do=f"--set {setting}=FILE"))
    return path


@dataclass(frozen=True)
class Reorient:
    """Swap and flip axes to RAS; no interpolation."""

    name: ClassVar[str] = "reorient"
    axes: str = "RAS"

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        before = space_of(work.volume).axes
        return work.with_volume(lattice.reorient(work.volume, self.axes), axes_of_file=before)


@dataclass(frozen=True)
class Skullstrip:
    """Zero what lies outside a mask: the one of the list, or one made by a program.

    ``tool`` is ``given`` (column ``mask`` of the list), ``synthstrip``, ``hd-bet`` or ``bet``.
    """

    name: ClassVar[str] = "skullstrip"
    tool: Literal["given", "synthstrip", "hd-bet", "bet"] = "given"
    dilate: int = 0

    #: program and its arguments; the mask or stripped image is written to {out}
    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "synthstrip": ("mri_synthstrip", "-i", "{image}", "-o", "{out}"),
        "hd-bet": ("hd-bet", "-i", "{image}", "-o", "{out}"),
        "bet": ("bet", "{image}", "{out}", "-f", "0.5", "-R"),
    }

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        mask = self._given(work) if self.tool == "given" else self._by_program(work)
        if self.dilate:
            from scipy.ndimage import binary_dilation

            mask = binary_dilation(mask, iterations=self.dilate)
        if not mask.any():
            raise DegenerateError(explain("the mask covers no voxel of the image"))
        litres = float(mask.sum() * abs(np.linalg.det(work.volume.affine[:3, :3])) / 1e6)
        return work.with_values(np.where(mask, work.volume.values, 0), mask_litres=round(litres, 4))

    def _given(self, work: Work) -> np.ndarray:
        if work.file.mask is None:
            raise UsageError(
                explain(
                    "the list names no mask for this image",
                    do="Add a column mask, set skullstrip.tool=synthstrip, or leave the step out",
                )
            )
        archive = work.file.path if work.file.member else None
        inside = archive is not None and not work.file.mask.exists()
        source = (
            ImageFile(work.file.sample_id, archive, member=str(work.file.mask))
            if inside and archive is not None
            else ImageFile(work.file.sample_id, work.file.mask)
        )
        mask = read_volume(source)
        lattice.check_space(space_of(mask), work.origin, f"the mask {source.shown}")
        moved = Volume(mask.values, work.moved @ mask.affine)
        return np.asarray(lattice.resample(moved, space_of(work.volume), order=0).values > 0.5)

    def _by_program(self, work: Work) -> np.ndarray:
        import tempfile

        from imgwas.images.nifti import write_volume
        from imgwas.images.registration import run_program

        words = self.COMMANDS[self.tool]
        program = shutil.which(words[0])
        if program is None:
            raise MissingLibraryError(
                explain(
                    f"{words[0]} is not installed",
                    do="Install it, or give masks in the list and set skullstrip.tool=given",
                )
            )
        with tempfile.TemporaryDirectory(prefix="imgwas-") as folder:
            image, out = Path(folder) / "in.nii.gz", Path(folder) / "out.nii.gz"
            write_volume(image, work.volume)
            run_program([program, *(w.format(image=image, out=out) for w in words[1:])])
            return np.asarray(read_volume(out).values != 0)


@dataclass(frozen=True)
class BiasField:
    """Divide by a smooth bias field (N4, SimpleITK)."""

    name: ClassVar[str] = "bias-field"
    shrink: int = 4

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        from imgwas.images.registration import correct_bias

        return work.with_values(correct_bias(work.volume, self.shrink))


@dataclass(frozen=True)
class Register:
    """Lay the image onto a template by an affine; values stay, the affine changes."""

    name: ClassVar[str] = "register"
    template: Path | None = None
    tool: Literal["simpleitk", "flirt", "ants"] = "simpleitk"
    dof: int = 12
    finest_mm: float = 2.0

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        from imgwas.images.registration import register

        template = _template(_need(self.template, "register.template"))
        matrix = register(
            work.volume, template, tool=self.tool, dof=self.dof, finest_mm=self.finest_mm
        )
        return work.with_move(matrix)


@dataclass(frozen=True)
class ApplyMatrix:
    """Move by the FLIRT matrix of the list (column ``matrix``), without FSL."""

    name: ClassVar[str] = "apply-matrix"
    template: Path | None = None

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        from imgwas.images.registration import parse_matrix, read_matrix

        if work.file.matrix is None:
            what = "the list names no matrix for this image"
            raise UsageError(explain(what, do="Add a column matrix, or use the step register"))
        reference = space_of(_template(_need(self.template, "apply-matrix.template")))
        if work.file.member and not work.file.matrix.exists():
            text = _member_text(work.file.path, str(work.file.matrix))
            matrix = parse_matrix(text, work.file.matrix.name)
        else:
            matrix = read_matrix(work.file.matrix)
        return work.with_move(lattice.flirt_to_world(matrix, work.origin, reference))


def _member_text(archive: Path, member: str) -> str:
    import zipfile

    with zipfile.ZipFile(archive) as opened, opened.open(member) as stream:
        return stream.read(65_536).decode("utf-8", errors="replace")


@dataclass(frozen=True)
class Resample:
    """Interpolate once onto the final lattice: a template's, or voxels of a given size."""

    name: ClassVar[str] = "resample"
    template: Path | None = None
    voxel_mm: float | None = None
    order: Literal[0, 1, 3] = 1

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        if self.template is None and self.voxel_mm is None:
            raise UsageError("resample: set resample.template=FILE, resample.voxel_mm=2, or both.")
        target = space_of(_template(self.template) if self.template else work.volume)
        if self.template:
            target = space_of(lattice.reorient(_template(self.template)))
        if self.voxel_mm is not None:
            target = lattice.with_voxels(target, (self.voxel_mm,) * 3)
        return work.with_volume(lattice.resample(work.volume, target, order=self.order))


@dataclass(frozen=True)
class CropOrPad:
    """Cut off or add zero voxels, the same on both sides, until the grid fits."""

    name: ClassVar[str] = "crop-or-pad"
    grid: tuple[int, ...] = ()
    offset: tuple[int, ...] | None = None

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        if not self.grid:
            raise UsageError("crop-or-pad: set crop-or-pad.grid=91,109,91.")
        return work.with_volume(lattice.crop_or_pad(work.volume, self.grid, offset=self.offset))


@dataclass(frozen=True)
class Tissue:
    """Replace intensities by the probability of one tissue (three intensity classes of a T1)."""

    name: ClassVar[str] = "tissue"
    kind: Literal["csf", "grey", "white"] = "grey"

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        tissue = ("csf", "grey", "white").index(self.kind)
        return work.with_values(scaling.tissue_probability(work.volume.values, tissue))


@dataclass(frozen=True)
class HeartCrop:
    """Cut a square around the beating heart out of a cine (frames last).

    What comes out knows voxel sizes and no place: every long-axis view lies in a plane of its own,
    and people are compared window by window.
    """

    name: ClassVar[str] = "heart-crop"
    size: int = 128

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        from imgwas.images.heart import locate_heart

        values = work.volume.values
        heart = locate_heart(values.reshape(*values.shape[:2], -1))
        offset = [int(np.floor(c + 0.5)) - self.size // 2 for c in heart.centre]
        cropped = lattice.crop_or_pad(work.volume, (self.size, self.size), offset=offset)
        zooms = np.linalg.norm(cropped.affine[:3, :3], axis=0)
        window = Volume(cropped.values, np.diag([*zooms, 1.0]))
        return work.with_volume(window, heart_centre=list(heart.centre))


@dataclass(frozen=True)
class ZScore:
    """Mean 0 and standard deviation 1 over the voxels that are not zero (UDIP)."""

    name: ClassVar[str] = "zscore"
    background: Literal["shift", "zero"] = "shift"

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        return work.with_values(scaling.zscore(work.volume.values, background=self.background))


@dataclass(frozen=True)
class ToRange:
    """Scale linearly to a range: 0 to 1, or -1 to 1 for the diffusion models."""

    name: ClassVar[str] = "to-range"
    low: float = 0.0
    high: float = 1.0

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        return work.with_values(scaling.to_range(work.volume.values, self.low, self.high))


@dataclass(frozen=True)
class ClipPercentiles:
    """Limit intensities to two percentiles of the voxels that are not zero."""

    name: ClassVar[str] = "clip"
    low: float = 0.5
    high: float = 99.5

    def apply(self, work: Work) -> Work:
        """Apply to one image."""
        return work.with_values(scaling.clip_percentiles(work.volume.values, self.low, self.high))


#: name -> step, in the order of a usual recipe
STEPS: dict[str, type] = {
    step.name: step
    for step in (
        Reorient, BiasField, Skullstrip, Register, ApplyMatrix, Resample, CropOrPad, HeartCrop,
        Tissue, ClipPercentiles, ZScore, ToRange,
    )
}  # fmt: skip
