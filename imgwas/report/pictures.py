"""Figures inside the page: matplotlib figures and picture files as small embedded pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgwas.errors import MalformedError, explain
from imgwas.report.markup import Child, Html, tag

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from PIL.Image import Image

#: Dots per inch of drawn figures, and pixels of the page for each inch.
DPI, PAGE = 190, 120
#: Pictures from files are not wider than this.
WIDEST = 1500
#: A picture loses details where keeping all would take so many times the bytes.
LOSS_FROM = 3.0
_LARGEST = 200_000_000


def figure_block(
    drawn: Axes | Figure | SubFigure | Path, *, alt: str, caption: Child = "", name: str = ""
) -> Html:
    """Embed a figure with its description and caption.

    Parameters
    ----------
    drawn : Axes, Figure or path
        What matplotlib drew, or a PNG file.
    alt : str
        What the figure shows, for people who cannot see it.
    caption : text or element
        Written below.
    name : str
        Anchor.
    """
    picture = _open(drawn) if isinstance(drawn, Path) else _drawn(drawn)
    address, width, height = _packed(picture)
    image = tag("img", src=address, alt=alt, width=width, height=height, loading="lazy")
    below = tag("figcaption", caption) if caption else None
    return tag("figure", image, below, id=name or None)


def plain(names: Iterable[object]) -> list[str]:
    """Names as matplotlib shows them letter by letter: a dollar sign would begin a formula."""
    return [str(name).replace("$", r"\$") for name in names]


def _drawn(drawn: Axes | Figure | SubFigure) -> Image:
    import matplotlib as mpl
    from PIL import Image

    from imgwas.plots.style import RC, root_of

    buffer = io.BytesIO()
    with mpl.rc_context(RC):
        figure = root_of(drawn.figure)
        figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.05)
    return Image.open(buffer)


def _open(path: Path) -> Image:
    from PIL import Image

    try:
        picture = Image.open(path, formats=["PNG"])
        if picture.width * picture.height > _LARGEST:
            raise MalformedError(explain(f"{path} has {picture.width} x {picture.height} pixels"))
        picture.load()
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise MalformedError(explain(f"{path} is no PNG picture ({error})")) from error
    return picture


def _packed(picture: Image) -> tuple[str, int, int]:
    """Shrink to the page's width; give the address and the size on the page.

    Drawings stay exact; photographs and brains, where exactness would cost much, do not.
    """
    from PIL import Image

    flat = Image.new("RGB", picture.size, "white")
    flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    if flat.width > WIDEST:
        height = round(flat.height * WIDEST / flat.width)
        flat = flat.resize((WIDEST, height), Image.Resampling.LANCZOS)
    exact = _bytes(flat, lossless=True, quality=50)
    photograph = _bytes(flat, quality=85)
    chosen = exact if len(exact) < LOSS_FROM * len(photograph) else photograph
    text = base64.b64encode(chosen).decode("ascii")
    scale = PAGE / DPI
    return f"data:image/webp;base64,{text}", round(flat.width * scale), round(flat.height * scale)


def _bytes(picture: Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", **options)
    return buffer.getvalue()
