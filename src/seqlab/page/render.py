"""The page as one text: template, style and script are beside this file, pictures are in it as WebP without loss."""

from __future__ import annotations

import base64
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from seqlab.page.content import Content, Picture, Text

HERE = Path(__file__).parent
LONGEST = 200_000  # characters of a text that is shown; what is cut is said


@dataclass(frozen=True)
class Embedded:
    """A picture as an address that holds it. width, height: pixels at one to one."""

    address: str
    width: int
    height: int


def embedded(picture: Picture) -> Embedded:
    from PIL import Image

    with Image.open(picture.path) as image:
        made = io.BytesIO()
        image.convert("RGB").save(made, "WEBP", lossless=True, quality=50, method=2)
        data = base64.b64encode(made.getvalue()).decode("ascii")
        return Embedded(f"data:image/webp;base64,{data}", image.width, image.height)


def shortened(text: Text) -> tuple[str, int]:
    """What is shown of it, and how many characters are not."""
    whole = text.path.read_text(encoding="utf-8")
    return (whole, 0) if len(whole) <= LONGEST else ("" if text.html else whole[:LONGEST], len(whole) - LONGEST)


def render(content: Content) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pictures = [*content.across, *(picture for one in content.sections for picture in one.pictures)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow works outside the interpreter's lock
        held = dict(zip(pictures, pool.map(embedded, pictures), strict=True))
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return templates.get_template("page.html").render(
        content=content, style=style, script=script, embedded=held.__getitem__, shortened=shortened
    )
