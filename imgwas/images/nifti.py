"""NIfTI volumes read strictly and written plainly.

Nothing is repaired in silence: a file that is cut short, whose header claims more than the file
holds, or whose values are not finite is refused by name. A file is unpacked only as far as its
header says, so that a small file cannot fill the memory.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import MalformedError, OpenError, ReadError, UsageError, explain
from imgwas.files import publish_bytes
from imgwas.images.listing import ImageFile
from imgwas.images.steadily import read_steadily
from imgwas.shapes import Float32, Float64

#: Voxels that a volume may have; 1 mm brains have 7 million, cines 0.8 million.
MAX_VOXELS = 512_000_000
#: A volume may grow by this factor when unpacked (an empty one reaches 1,000).
MAX_RATIO = 1100
#: Bytes after the voxels that are unpacked to reach the checksum.
MAX_TRAILING = 1 << 28
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
#: first bytes -> what the file is, and what to do
FOREIGN = {
    b"<!DO": ("a web page", "Download the file again"),
    b"<htm": ("a web page", "Download the file again"),
    b"vers": ("a pointer of Git LFS, not the file", "Run 'git lfs pull'"),
    b"\x89HDF": ("an HDF5 file", "Use --source store"),
    b"\x89PNG": ("a picture", "Convert it to NIfTI"),
}


@dataclass(frozen=True)
class Volume:
    """One image in space.

    Parameters
    ----------
    values : (x, y, z) or (x, y, z, frames) float32 array
    affine : (4, 4) float array
        Voxel indices to millimetres, RAS+.
    """

    values: Float32[np.ndarray, " *grid"]
    affine: Float64[np.ndarray, "4 4"]

    @property
    def grid(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(self.values.shape)


@dataclass(frozen=True)
class VolumeHeader:
    """What a NIfTI header says, checked.

    ``codes`` are (qform, sform); both 0 means that nobody said how the image lies in space.
    ``disagreement`` is the largest difference, in mm, between where qform and sform put a corner;
    ``gap`` is the number of bytes between header and voxels.
    """

    grid: tuple[int, ...]
    affine: Float64[np.ndarray, "4 4"]
    dtype: np.dtype
    gap: int
    slope: float
    intercept: float
    codes: tuple[int, int]
    disagreement: float

    @property
    def n_bytes(self) -> int:
        """Bytes of the voxels."""
        return int(np.prod(self.grid, dtype=object)) * self.dtype.itemsize


def read_volume(image: ImageFile | Path | str, *, dimensions: tuple[int, ...] = (3,)) -> Volume:
    """Read a NIfTI volume, in a folder or inside a zip, as float32.

    Parameters
    ----------
    image : ImageFile or path
        ``.nii`` or ``.nii.gz``; an ``ImageFile`` may name a member of a zip.
    dimensions : tuple of int
        How many axes are welcome: (3,) for a volume, (4,) for a cine. Trailing axes of length
        one do not count.

    Raises
    ------
    OpenError, ReadError
        If the file is absent, reading fails, or it changes meanwhile; an ``ImageFile`` is tried
        four times.
    MalformedError
        If it is no NIfTI, damaged, of another number of axes, or holds values that are not finite.
    """
    if isinstance(image, ImageFile):  # listed a while ago, often on a server
        return read_steadily(image.path, image.shown, lambda: _read_volume(image, dimensions))
    return _read_volume(ImageFile("", Path(image)), dimensions)


def _read_volume(file: ImageFile, dimensions: tuple[int, ...]) -> Volume:
    with _Opened(file) as (stream, size):
        header = _header(stream, size, file.shown)
        _check_dimensions(header.grid, dimensions, file.shown)
        raw = _voxels(stream, header, file.shown)
    values = raw.reshape(header.grid, order="F").astype(np.float32)
    if (header.slope, header.intercept) != (1.0, 0.0):
        values = values * np.float32(header.slope) + np.float32(header.intercept)
    _check_values(values, file.shown)
    return Volume(np.ascontiguousarray(values), header.affine)


def read_header(image: ImageFile | Path | str) -> VolumeHeader:
    """Read and check the header of a NIfTI file without its voxels."""
    file = image if isinstance(image, ImageFile) else ImageFile("", Path(image))
    with _Opened(file) as (stream, size):
        return _header(stream, size, file.shown)


def _fits(values: np.ndarray, dtype: np.dtype) -> bool:
    """Whether all values are whole numbers that a type of integer holds."""
    if np.issubdtype(values.dtype, np.integer):
        return False
    limits = np.iinfo(dtype)
    inside = values.size and limits.min <= values.min() and values.max() <= limits.max
    return bool(inside and (values == np.rint(values)).all())


def write_volume(path: Path, volume: Volume, *, dtype: str = "float32") -> str:
    """Write a NIfTI volume with a header of its own, and return its SHA-256.

    Nothing of an input header is carried over: free text in it may name a person. The same
    volume gives the same bytes. ``int16`` keeps 65,535 steps between minimum and maximum; whole
    numbers that fit are kept as they are.
    """
    import nibabel

    values = np.asarray(volume.values)
    if dtype not in ("float32", "int16", "uint8"):
        raise UsageError(explain(f"dtype is {dtype!r}", expected="float32, int16 or uint8"))
    if dtype != "float32" and _fits(values, np.dtype(dtype)):
        values = values.astype(dtype)  # labels and masks stay whole numbers, without a scale
    image = nibabel.nifti1.Nifti1Image(values, volume.affine)
    image.header.set_data_dtype(np.dtype(dtype))
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code=2)
    image.set_qform(volume.affine, code=0)
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        content = gzip.compress(content, compresslevel=3, mtime=0)
    return publish_bytes(path, content)


class _Opened:
    """An uncompressed stream of a file or of a member of a zip, and its packed size."""

    def __init__(self, file: ImageFile) -> None:
        self.file = file
        self.held: list[Any] = []

    def __enter__(self) -> tuple[Any, int]:
        try:
            stream, size = self._packed()
            start = stream.read(4)
            stream.seek(0)
        except FileNotFoundError as error:
            raise OpenError(explain(f"{self.file.shown} does not exist")) from error
        except (
            OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, ValueError, KeyError,
        ) as error:  # fmt: skip
            self.__exit__()
            raise _unreadable(self.file.shown, error) from error
        if start.startswith(GZIP):
            unpacked: Any = gzip.GzipFile(fileobj=stream)
            self.held.append(unpacked)
            return unpacked, size
        if start.startswith(ZIP) or any(start.startswith(magic) for magic in FOREIGN):
            self.__exit__()
            raise _foreign(self.file.shown, start)
        return stream, size

    def _packed(self) -> tuple[Any, int]:
        if not self.file.member:
            stream: Any = self.file.path.open("rb")
            self.held.append(stream)
            return stream, self.file.path.stat().st_size
        archive = zipfile.ZipFile(self.file.path)
        self.held.append(archive)
        entry = archive.getinfo(self.file.member)
        stream = archive.open(entry)
        self.held.append(stream)
        return stream, entry.file_size

    def __exit__(self, *_: object) -> None:
        while self.held:
            self.held.pop().close()


def _foreign(name: str, start: bytes) -> MalformedError:
    if start.startswith(ZIP):
        do = "Name the member: --member T1_brain.nii.gz"
        return MalformedError(explain(f"{name} is a zip archive", do=do))
    what, do = next(FOREIGN[magic] for magic in FOREIGN if start.startswith(magic))
    return MalformedError(explain(f"{name} is {what}", expected="A NIfTI file is needed", do=do))


def _unreadable(name: str, error: Exception) -> Exception:
    if isinstance(error, KeyError):
        return MalformedError(explain(f"{name} is not in the archive"))
    if not isinstance(error, OSError):
        return MalformedError(explain(f"{name}: the archive is damaged ({error})"))
    reason = getattr(error, "strerror", None) or str(error)
    return ReadError(explain(f"{name} cannot be read ({reason})", do="Copy the file again"))


def _read(stream: Any, n: int, name: str) -> bytes:
    """Read at most n bytes; a damaged stream is the file's fault, said so."""
    parts, left = [], n
    try:
        while left and (part := stream.read(min(left, 1 << 24))):
            parts.append(part)
            left -= len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        got = n - left
        what = f"{name} is damaged or cut short after {got:,} bytes ({error})"
        raise MalformedError(explain(what, do="Copy the file again")) from error
    except OSError as error:
        raise _unreadable(name, error) from error
    return b"".join(parts)


def _header(stream: Any, size: int, name: str) -> VolumeHeader:
    import nibabel

    start = _read(stream, 4, name)
    kind = {348: nibabel.nifti1.Nifti1Header, 540: nibabel.nifti2.Nifti2Header}
    lengths = {int.from_bytes(start, "little"), int.from_bytes(start, "big")}
    known = lengths & set(kind)
    if not known:
        what = "is empty" if not start else "is no NIfTI file"
        do = "Convert it, e.g. mri_convert in.mgz out.nii.gz" if name.endswith(".mgz") else ""
        expected = "A .nii or .nii.gz file is needed"
        raise MalformedError(explain(f"{name} {what}", expected=expected, do=do))
    (length,) = known
    block = start + _read(stream, length - 4, name)
    if len(block) < length:
        raise MalformedError(explain(f"{name} ends inside its header", do="Copy the file again"))
    try:
        header = kind[length](block, check=False)
    except Exception as error:
        raise MalformedError(explain(f"{name} has a damaged header ({error})")) from error
    checked = _checked(header, name)
    n_bytes = length + checked.gap + checked.n_bytes
    if n_bytes > MAX_RATIO * max(size, 1):
        raise MalformedError(
            explain(
                f"the header of {name} claims {n_bytes:,} bytes and the file has {size:,}",
                do="Copy the file again, or do not trust it",
            )
        )
    return checked


def _checked(header: Any, name: str) -> VolumeHeader:
    """Check every field that the voxels or their place depend on."""
    magic = bytes(header["magic"].tobytes())[:4]
    if magic not in (b"n+1\0", b"n+2\0"):
        do = "Convert the pair to one file: nib-convert or fslchfiletype NIFTI_GZ"
        raise MalformedError(explain(f"{name} is an Analyze pair or no NIfTI file", do=do))
    n_axes = int(header["dim"][0])
    lengths = tuple(int(n) for n in header["dim"][1 : n_axes + 1]) if 1 <= n_axes <= 7 else ()
    if not lengths or min(lengths) < 1:
        raise MalformedError(explain(f"{name} has axes of lengths {list(header['dim'])}"))
    if int(np.prod(lengths, dtype=object)) > MAX_VOXELS:
        grid = "x".join(map(str, lengths))
        raise MalformedError(
            explain(f"{name} claims {grid} voxels", expected=f"At most {MAX_VOXELS:,} are read")
        )
    dtype = _voxel_type(header, name)
    slope, intercept = _scale(header, dtype, name)
    while len(lengths) > 3 and lengths[-1] == 1:
        lengths = lengths[:-1]
    affine, disagreement = _affine(header, lengths, name)
    return VolumeHeader(
        grid=lengths,
        affine=affine,
        dtype=dtype,
        gap=_gap(header, name),
        slope=slope,
        intercept=intercept,
        codes=(int(header["qform_code"]), int(header["sform_code"])),
        disagreement=disagreement,
    )


def _voxel_type(header: Any, name: str) -> np.dtype:
    try:
        dtype = np.dtype(header.get_data_dtype())
    except Exception as error:
        code = int(header["datatype"])
        raise MalformedError(explain(f"{name} has voxels of unknown type {code}")) from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        kind = {"c": "complex", "V": "colour (RGB)"}.get(dtype.kind, str(dtype))
        raise MalformedError(
            explain(f"{name} has {kind} voxels", expected="One real number per voxel is needed")
        )
    return dtype


def _scale(header: Any, dtype: np.dtype, name: str) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means 'not scaled', by the standard."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or (np.isnan(slope) and dtype.kind == "f"):
        return 1.0, 0.0
    if np.isnan(slope) and np.isnan(intercept):
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise MalformedError(explain(f"{name} scales its values by {slope:g} and {intercept:g}"))
    return slope, intercept


def _gap(header: Any, name: str) -> int:
    offset = float(header["vox_offset"])
    length = int(header["sizeof_hdr"])
    if not (np.isfinite(offset) and length <= offset <= 64_000_000):
        raise MalformedError(explain(f"{name} starts its voxels at byte {offset:g}"))
    return int(offset) - length


def _affine(header: Any, lengths: tuple[int, ...], name: str) -> tuple[np.ndarray, float]:
    """Affine of the sform, else of the qform, else of the voxel sizes; and how far they differ."""
    zooms = np.asarray(header["pixdim"][1:4], np.float64)
    n_axes = min(len(lengths), 3)
    if not np.isfinite(zooms[:n_axes]).all() or (np.abs(zooms[:n_axes]) < 1e-6).any():
        raise MalformedError(explain(f"{name} has voxel sizes {zooms.tolist()}"))
    try:
        affine = np.asarray(header.get_best_affine(), np.float64)
        both = int(header["qform_code"]) > 0 and int(header["sform_code"]) > 0
        other = np.asarray(header.get_qform(), np.float64) if both else affine
    except Exception as error:
        raise MalformedError(explain(f"{name} has a damaged orientation ({error})")) from error
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise MalformedError(explain(f"{name} has an affine that cannot be inverted"))
    corner = np.array([*(np.array((*lengths, 1, 1, 1))[:3] - 1), 1.0])
    apart = max(float(np.abs((affine - other) @ point).max()) for point in (corner, np.eye(4)[3]))
    return affine, apart


def _voxels(stream: Any, header: VolumeHeader, name: str) -> np.ndarray:
    _read(stream, header.gap, name)
    content = _read(stream, header.n_bytes, name)
    if len(content) < header.n_bytes:
        raise MalformedError(
            explain(
                f"{name} is cut short: {len(content):,} of {header.n_bytes:,} bytes of voxels",
                do="Copy the file again",
            )
        )
    if isinstance(stream, gzip.GzipFile | zipfile.ZipExtFile):
        _to_the_end(stream, name)
    return np.frombuffer(content, header.dtype)


def _to_the_end(stream: Any, name: str) -> None:
    """Unpack what follows the voxels: the checksum is at the very end."""
    for _ in range(MAX_TRAILING >> 24):
        if not _read(stream, 1 << 24, name):
            return
    what = f"{name} goes on for more than {MAX_TRAILING:,} bytes after its voxels"
    raise MalformedError(explain(what, do="Copy the file again"))


def _check_dimensions(grid: tuple[int, ...], welcome: tuple[int, ...], name: str) -> None:
    if len(grid) not in welcome:
        raise MalformedError(
            explain(
                f"{name} has {len(grid)} axes ({'x'.join(map(str, grid))})",
                expected=f"{' or '.join(map(str, welcome))} axes are needed",
                do="Choose one frame or one contrast, or average them",
            )
        )


def _check_values(values: np.ndarray, name: str) -> None:
    n_bad = values.size - int(np.isfinite(values).sum())
    if n_bad:
        raise MalformedError(
            explain(f"{name} holds {n_bad:,} values that are not finite (NaN or infinity)")
        )
