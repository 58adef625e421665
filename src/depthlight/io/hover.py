"""A map as a piece of HTML for notebooks: a picture that tells the values under the pointer. It loads nothing.

Shape legend: H W map size, h w its size on the page.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .colour import colour_map, robust_range

WIDTH = 640  # px on the page, at most
_READ_OUT = 240  # values across, at most: some 200 KB a map

_PAGE = """<figure id="{id}" style="margin:0;display:inline-block;font:13px sans-serif">
<img alt="{caption}" width="{width}" height="{height}" style="display:block" src="data:image/png;base64,{picture}">
<figcaption>{caption} <output style="font-variant-numeric:tabular-nums"></output></figcaption>
<script>(() => {{
const figure = document.getElementById("{id}"), picture = figure.querySelector("img");
const told = figure.querySelector("output"), [w, h] = {grid}, [fullWidth, fullHeight] = {full};
const maps = {maps}.map(([name, unit, text]) => {{
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return [name, unit, new Float32Array(bytes.buffer)];
}});
picture.addEventListener("pointermove", (event) => {{
  const x = event.offsetX / picture.width, y = event.offsetY / picture.height;
  const at = Math.min(h - 1, Math.floor(y * h)) * w + Math.min(w - 1, Math.floor(x * w));
  const values = maps.map(([name, unit, v]) => `${{name}} ${{isNaN(v[at]) ? "–" : v[at].toPrecision(4) + unit}}`);
  told.textContent = `x ${{Math.floor(x * fullWidth)}}, y ${{Math.floor(y * fullHeight)}}: ${{values.join(", ")}}`;
}});
picture.addEventListener("pointerleave", () => {{ told.textContent = ""; }});
}})();</script></figure>"""


def hover_html(
    shown: str,
    maps: Mapping[str, tuple[NDArray[np.floating[Any]], str]],
    caption: str,
    *,
    valid_HW: NDArray[np.bool_] | None = None,
) -> str:
    """The map ``shown`` in colour, and the values of all maps under the pointer.

    Args:
        shown: the name of the map to draw.
        maps: name to values (H, W) and unit; all of one size.
        caption: under the picture.
        valid_HW: pixels of ``shown`` to draw; its others are gray and have no value.
    """
    values_HW = maps[shown][0]
    full_height, full_width = values_HW.shape
    width = min(WIDTH, full_width)
    height = max(1, round(full_height * width / full_width))
    low, high = robust_range(values_HW, valid_HW)
    colours = colour_map(values_HW, low, high, valid_HW=valid_HW)
    picture = io.BytesIO()
    Image.fromarray(cv2.resize(colours, (width, height), interpolation=cv2.INTER_AREA)).save(picture, "PNG")
    w = min(_READ_OUT, full_width)
    h = max(1, round(full_height * w / full_width))
    rows, columns = ((np.arange(n) * whole + whole // 2) // n for n, whole in ((h, full_height), (w, full_width)))
    parts = []
    for name, (map_HW, unit) in maps.items():
        known_HW = map_HW if valid_HW is None or name != shown else np.where(valid_HW, map_HW, np.nan)
        parts.append(
            [name, f" {unit}" if unit else "", _base64(known_HW[np.ix_(rows, columns)].astype("<f4").tobytes())]
        )
    text = repr(parts)
    return _PAGE.format(
        id="depthlight-" + hashlib.sha256((text + caption).encode()).hexdigest()[:16],
        caption=html.escape(caption, quote=True),
        width=width,
        height=height,
        picture=_base64(picture.getvalue()),
        grid=[w, h],
        full=[full_width, full_height],
        maps=text,
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
