"""Frames as films: gifs, mp4 where ffmpeg is, and a beating heart beside the same heart moved."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MissingLibraryError,
    WriteError,
    explain,
)
from imgwas.files import publish_bytes
from imgwas.plots.panels import GAP, TITLE, new_figure, rows_of_panels
from imgwas.plots.planes import finer, limit_of
from imgwas.plots.style import RC

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def cine_film(
    path: str | Path,
    original: np.ndarray,
    shifted: np.ndarray,
    *,
    zooms: Sequence[float] = (1.0, 1.0),
    labels: Sequence[str] = ("original", "shifted"),
    slice_index: int | None = None,
    difference: bool = False,
    seconds: float = 2.0,
    dpi: int = 130,
) -> Path:
    """Write a film of a beating heart beside the same heart after a move in latent space.

    Both play in step, in one intensity window. Slices are shown as they were acquired: the first
    axis to the right, the second upwards.

    Parameters
    ----------
    path : str or Path
        Ends in .gif, or in .mp4 (needs ffmpeg, or ``pip install 'imgwas[film]'``).
    original, shifted : (x, y, z, frames) arrays
    zooms : sequence of float
        Voxel sizes in mm along the first two axes.
    labels : two str
        Names of the two.
    slice_index : int, optional
        Which slice along the third axis; the middle one by default.
    difference : bool
        Add shifted minus original, symmetric about zero.
    seconds : float
        For one beat.
    dpi : int
        Pixels per inch; each picture is 1.8 inches wide.

    Returns
    -------
    Path

    Raises
    ------
    MissingLibraryError
        If an .mp4 is asked for and there is no ffmpeg.
    """
    import matplotlib as mpl

    path = check_film(path)
    check_range("seconds", seconds, low=0.1)
    pair = _cines(original, shifted, slice_index)
    with mpl.rc_context(RC):
        frames = list(_cine_frames(pair, zooms, labels, difference, dpi))
    publish_bytes(path, film_bytes(frames, seconds / len(frames), path.suffix))
    return path


def check_film(path: str | Path) -> Path:
    """Refuse a suffix that is no film, and an .mp4 that nothing here can make."""
    path = Path(path)
    check_option("the suffix of a film", path.suffix, [".gif", ".mp4"])
    if path.suffix == ".mp4":
        find_ffmpeg()
    return path


def film_bytes(frames: Sequence[np.ndarray], seconds_each: float, suffix: str) -> bytes:
    """Pack frames as a gif or an mp4, by the suffix of the file."""
    if suffix == ".gif":
        return gif_bytes(frames, seconds_each)
    return _mp4_bytes(frames, seconds_each)


def _cines(
    original: np.ndarray, shifted: np.ndarray, slice_index: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """One slice of both, (x, y, frames)."""
    if original.ndim != 4 or original.shape != shifted.shape:
        raise InconsistentError(
            explain(f"the cines have shapes {original.shape} and {shifted.shape}",
                    expected="The same (x, y, z, frames) for both")
        )  # fmt: skip
    n_slices = original.shape[2]
    chosen = n_slices // 2 if slice_index is None else slice_index
    check_range("slice_index", chosen, low=0, high=n_slices - 1)
    pair = (np.asarray(original[:, :, chosen], np.float32),
            np.asarray(shifted[:, :, chosen], np.float32))  # fmt: skip
    if not all(np.isfinite(cine).all() for cine in pair):
        raise DegenerateError("the cines hold values that are not finite.")
    return pair


def _cine_frames(
    pair: tuple[np.ndarray, np.ndarray], zooms: Sequence[float], labels: Sequence[str],
    difference: bool, dpi: int,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Render frame after frame, changing only the values of pictures."""
    low, high = (float(v) for v in np.percentile(pair[0], [0.5, 99.7]))
    shown = [*pair, pair[1] - pair[0]] if difference else list(pair)
    wide, tall = pair[0].shape[0] * zooms[0], pair[0].shape[1] * zooms[1]
    width = 1.8 * len(shown) + GAP * (len(shown) - 1)
    figure = new_figure(width, 1.8 * tall / wide + TITLE)
    figure.set_dpi(dpi)
    rows = rows_of_panels(figure, [[(wide, tall)] * len(shown)], (0, 0, width, 1.8 * tall / wide))
    limit = limit_of(shown[-1])
    drawn = []
    for number, (ax, cine) in enumerate(zip(rows[0], shown, strict=True)):
        signed = number == 2
        drawn.append(_cine_panel(ax, cine, (-limit, limit) if signed else (low, high),
                                 "RdBu_r" if signed else "gray", (wide, tall)))  # fmt: skip
        ax.set_title([*labels, "difference"][number], fontsize=8, pad=3)
    n_frames = pair[0].shape[2]
    beat = rows[0][0].text(0.02, 0.02, "", transform=rows[0][0].transAxes, fontsize=6,
                           color="white")  # fmt: skip
    for frame in range(n_frames):
        for picture, cine in zip(drawn, shown, strict=True):
            picture.set_data(finer(cine[:, :, frame].T))
        beat.set_text(f"{frame + 1}/{n_frames}")
        yield pixels(figure)


def _cine_panel(
    ax: Axes, cine: np.ndarray, window: tuple[float, float], colours: str,
    size: tuple[float, float],
) -> Any:  # fmt: skip
    ax.set_axis_off()
    return ax.imshow(cine[:, :, 0].T, cmap=colours, vmin=window[0], vmax=window[1], origin="lower",
                     extent=(0, size[0], 0, size[1]), interpolation="bilinear")  # fmt: skip


def pixels(figure: Figure) -> np.ndarray:
    """Render a figure as (rows, columns, 3) bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def gif_bytes(frames: Sequence[np.ndarray], seconds_each: float) -> bytes:
    """Pack frames as a gif that repeats for ever, with one palette so that nothing flickers."""
    from PIL import Image

    sample = np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]])
    palette = Image.fromarray(sample).quantize(256, dither=Image.Dither.NONE)
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    colours[colours.min(axis=1) >= min(246, colours.min(axis=1).max())] = 255  # paper stays white
    palette.putpalette(colours.ravel().tolist())
    packed = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE)
              for f in frames]  # fmt: skip
    stream = io.BytesIO()
    packed[0].save(stream, format="GIF", save_all=True, append_images=packed[1:], loop=0,
                   duration=max(20, round(seconds_each * 1000)), disposal=1)  # fmt: skip
    return stream.getvalue()


def find_ffmpeg() -> str:
    """Path of ffmpeg: the one that is installed, or that of imageio-ffmpeg.

    Raises
    ------
    MissingLibraryError
        If there is neither.
    """
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise MissingLibraryError(
            explain("an .mp4 needs the program ffmpeg, which is not installed",
                    do="Write a .gif, install ffmpeg, or pip install 'imgwas[film]'")
        ) from error  # fmt: skip


def _mp4_bytes(frames: Sequence[np.ndarray], seconds_each: float) -> bytes:
    """Encode frames as H.264 that every browser plays; sizes are made even, as it demands."""
    height, width = (n - n % 2 for n in frames[0].shape[:2])
    with tempfile.TemporaryDirectory(prefix="imgwas") as folder:
        target = Path(folder) / "film.mp4"
        command = [find_ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
                   "-s", f"{width}x{height}", "-r", f"{1 / seconds_each:.6f}", "-i", "-",
                   "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(target)]  # fmt: skip
        raw = b"".join(np.ascontiguousarray(f[:height, :width]).tobytes() for f in frames)
        done = subprocess.run(command, input=raw, capture_output=True, check=False)  # noqa: S603
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise WriteError(
                explain(f"ffmpeg could not encode the film: {words[-1] if words else 'no message'}",
                        do="Write a .gif")
            )  # fmt: skip
        return target.read_bytes()
