"""What a picture's header says, before anything makes room for its pixels."""

from __future__ import annotations

import io

import PIL.Image

from vl4ad_ros.io.errors import Vl4adError

MAX_PIXELS = 89_478_485  # Pillow's own limit, above which it warns of a bomb
MAX_SCANS = 64  # of a progressive JPEG; a usual one has 10, each is a pass over all pixels
START_OF_SCAN = b"\xff\xda"
# No others: Pillow hands EPS to Ghostscript, and a few kB of AVIF unpack to gigabytes.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF")


def picture_size(data: bytes, formats: tuple[str, ...] = FORMATS) -> tuple[int, int]:
    """Return the height and width of a picture of some formats (Pillow's names) without decoding it."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=formats) as header:
            (width, height), kind = header.size, header.format
    except PIL.Image.DecompressionBombError as error:
        raise Vl4adError(f"too large ({error}); at most {MAX_PIXELS // 10**6} megapixels are read") from error
    except Exception as error:  # whatever its parsers stumble over
        raise Vl4adError(f"not a picture, or damaged ({len(data)} bytes)") from error
    if height * width > MAX_PIXELS:
        raise Vl4adError(f"{width}x{height} is too large; at most {MAX_PIXELS // 10**6} megapixels are read")
    if kind in ("JPEG", "MPO") and (scans := data.count(START_OF_SCAN)) > MAX_SCANS:
        raise Vl4adError(f"a JPEG of {scans} scans; at most {MAX_SCANS} are decoded")
    return height, width
