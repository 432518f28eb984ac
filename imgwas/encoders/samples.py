"""What a generator makes, judged and shown: distance to real images, diversity, sheets.

Features are those of one small network of random convolutions, the same for everybody: three
layers of stride 2, then mean and standard deviation of each map. A network trained on photographs
would know nothing of brains; principal components of the real images would not see what fakes have
and real images have not. Distances are in units of the real images' own variance of features.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from imgwas.encoders.similarity import frechet_distance, ms_ssim
from imgwas.files import publish_bytes
from imgwas.shapes import Float, Float64, UInt8

#: Channels of the random network.
MAPS = (8, 16, 32)
SEED = 20_260_101
#: Pictures whose neighbours in a ring are compared by MS-SSIM.
RING = 16
#: Voxels that are compared at a time.
BLOCK = 2**22


def features(pictures: Float[torch.Tensor, "n 1 x y z"]) -> Float64[np.ndarray, "n features"]:
    """Return 64 features of each picture from a fixed network of random convolutions."""
    rows = []
    with torch.no_grad():
        for one in pictures.float().cpu():
            maps = one[None]
            for kernel in _kernels():
                maps = functional.leaky_relu(functional.conv3d(maps, kernel, stride=2, padding=1))
            flat = maps[0].flatten(1).double()
            rows.append(torch.cat([flat.mean(dim=1), flat.std(dim=1, correction=0)]).numpy())
    return np.stack(rows)


@cache
def _kernels() -> tuple[torch.Tensor, ...]:
    """Weights that keep the size of values, from a fixed seed."""
    rng = np.random.default_rng(SEED)
    kernels = []
    for n_in, n_out in zip((1, *MAPS[:-1]), MAPS, strict=True):
        values = rng.normal(size=(n_out, n_in, 3, 3, 3)) / np.sqrt(27 * n_in)
        kernels.append(torch.from_numpy(values.astype(np.float32)))
    return tuple(kernels)


def compare_samples(
    real: Float[torch.Tensor, "n 1 x y z"],
    fake: Float[torch.Tensor, "m 1 x y z"],
    *,
    data_range: float,
) -> dict[str, float]:
    """Compare samples of a generator with real images that it has not seen.

    Returns
    -------
    dict
        ``sample_distance``, Fréchet distance of fake and real features in units of the real
        features' total variance, and ``real_distance``, the same between two halves of the real
        images: what chance alone gives for half as many. ``sample_similarity`` and
        ``real_similarity``, mean MS-SSIM between pictures: a generator without variety is near 1.
        ``sample_spread``, variance between fakes over that between real images.
    """
    a, b = features(real), features(fake)
    total = max(float(a.var(axis=0, ddof=1).sum()), 1e-30)
    compared = {"sample_distance": frechet_distance(a, b) / total}
    if len(real) >= 4:
        compared["real_distance"] = frechet_distance(a[::2], a[1::2]) / total
    for name, pictures in (("sample", fake), ("real", real)):
        compared[f"{name}_similarity"] = similarity_between(pictures, data_range=data_range)
    spread = [float(p.float().var(dim=0).mean()) for p in (fake, real)]
    compared["sample_spread"] = spread[0] / max(spread[1], 1e-30)
    return compared


def similarity_between(pictures: Float[torch.Tensor, "n 1 x y z"], *, data_range: float) -> float:
    """Return the mean MS-SSIM of each of the first 16 pictures and the next, in a ring."""
    some = pictures[:RING].float()
    size = max(1, BLOCK // some[0].numel())
    shifted = some.roll(1, dims=0)
    pairs = zip(torch.split(some, size), torch.split(shifted, size), strict=True)
    return float(torch.cat([ms_ssim(a, b, data_range=data_range) for a, b in pairs]).mean())


def sheet(
    pictures: Float[torch.Tensor, "n 1 x y z"], *, low: float, high: float
) -> UInt8[np.ndarray, "rows columns"]:
    """Return one grey picture: a column a volume, its three middle slices below one another.

    Voxel indices grow to the right and upwards; ``low`` is black, ``high`` white.
    """
    columns = []
    for volume in pictures[:, 0].float().cpu().numpy():
        x, y, z = (n // 2 for n in volume.shape)
        slices = [volume[:, :, z], volume[:, y], volume[x]]
        width = max(one.shape[0] for one in slices)
        tiles = [np.rot90(np.pad(one, ((0, width - len(one)), (0, 1)), constant_values=low))
                 for one in slices]  # fmt: skip
        columns.append(np.pad(np.concatenate(tiles), ((0, 0), (0, 1)), constant_values=low))
    grey = (np.concatenate(columns, axis=1) - low) / (high - low)
    return np.asarray(np.clip(np.rint(255 * grey), 0, 255), np.uint8)


def write_png(path: Path, grey: UInt8[np.ndarray, "rows columns"]) -> None:
    """Publish a grey picture of 8 bits as PNG."""
    rows, columns = grey.shape
    lines = b"".join(b"\0" + line.tobytes() for line in grey)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines, 6)),
        (b"IEND", b""),
    )
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    publish_bytes(path, content)
