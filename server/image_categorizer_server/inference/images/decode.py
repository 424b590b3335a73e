"""Decodes images to upright RGB pixels; checks the limits before it decodes a pixel.

Uses Pillow, or pillow-simd.  How each colour mode becomes RGB:

    RGB                      unchanged
    1, L                     grey in all three channels
    any mode with alpha      over white (LA, PA, RGBA, and P, L, RGB with a transparent colour)
    P                        by its palette
    CMYK, YCCK               Pillow's conversion; Adobe's inversion is undone, profiles are ignored
    I;16, I                  from 16 bits to 8: white is 65,535, or what the file says
    YCbCr, LAB, HSV          Pillow's conversion
    F and all others         refused
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version

from image_categorizer_server import failpoints
from image_categorizer_server.domain.classification import ImageWarning
from image_categorizer_server.errors import (
    ImageTooLarge,
    TooManyPixels,
    UndecodableImage,
    UnsupportedFormat,
)
from image_categorizer_server.inference.images.container import (
    Container,
    exif_orientation,
    read_bmp,
    read_gif,
    read_heif,
)
from image_categorizer_server.inference.images.formats import (
    check_readable,
    format_of,
    webp_size,
)
from image_categorizer_server.inference.images.jpeg import Jpeg, read_jpeg
from image_categorizer_server.inference.images.png import Png, read_png
from image_categorizer_server.inference.images.tiff import read_tiff
from image_categorizer_server.inference.images.webp import read_webp

DECODING_LIBRARY = f"{'pillow-simd' if 'post' in pillow_version else 'Pillow'} {pillow_version}"
"""What decodes and resizes. Versions of pillow-simd end with `.postN`."""
CONVERTED_BY_PILLOW = frozenset({"1", "L", "P", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"})
MISSING_GREY = frozenset({127, 128})  # what a JPEG decoder shows where data is missing
# Means of blocks come before a reduction by more than this: no eye sees a difference.
REDUCING_GAP = 2.0
REDUCTIONS = (1, 2, 4, 8)  # of libjpeg, as Pillow uses it
UPRIGHT: dict[int, Image.Transpose] = {  # EXIF 2.32, section 4.6.4 A, tag Orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPS_SIDES = frozenset(
    {
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
    }
)
# Applies after the transposition, for those that swap sides.
MIRRORS_COLUMNS = frozenset(
    {
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.ROTATE_180,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
    }
)
MIRRORS_ROWS = frozenset(
    {
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.ROTATE_180,
        Image.Transpose.ROTATE_90,
        Image.Transpose.TRANSVERSE,
    }
)

Box = tuple[float, float, float, float] | None
Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The limits of an image; all are inclusive."""

    max_bytes: int
    max_pixels: int
    max_side_px: int
    max_aspect_ratio: float
    max_jpeg_scans: int
    max_tags: int = 4096
    min_rows_share: float = 0.9


class Pixels:
    """A decoded image: RGB, 8 bits per channel, upright; possibly decoded at a smaller size."""

    _RESAMPLING: ClassVar = {name: Image.Resampling[name.upper()] for name in get_args(Resample)}

    def __init__(
        self,
        image: Image.Image,
        size_px: tuple[int, int] | None = None,
        box: Box = None,
        warnings: tuple[ImageWarning, ...] = (),
    ) -> None:
        """Wraps a decoded image.

        Args:
            image: mode RGB (or L, see `grey`), upright.
            size_px: width and height of the full image, if `image` was decoded smaller.
            box: the part of `image` with content; a JPEG decoded smaller has padded blocks.
            warnings: what is wrong with the image, though it is shown.
        """
        self._image = image
        self.warnings = warnings
        self._box = box or (0.0, 0.0, float(image.width), float(image.height))
        self.width_px, self.height_px = size_px or image.size

    @classmethod
    def of(cls, array: NDArray[np.uint8]) -> "Pixels":
        """Returns a copy of uint8 (H, W, 3) as pixels."""
        return cls(Image.fromarray(array, "RGB"))

    def grey(self) -> "Pixels":
        """Returns the image with one channel, whose arrays are (H, W)."""
        size_px = self.width_px, self.height_px
        return Pixels(self._image.convert("L"), size_px, self._box, self.warnings)

    def resized(
        self, width_px: int, height_px: int, crop: tuple[int, int, int, int], resample: Resample
    ) -> NDArray[np.uint8]:
        """Returns the part `crop` (left, top, right, bottom) of the resized image, uint8 (H, W, 3).

        Resizes the whole image and then crops, as transformers does.  Resizing only the crop would
        save 0.3 ms for a photograph of 500 x 375, but Pillow rounds such a box to 32-bit
        floats, and confidences would differ by up to 0.003.
        """
        whole = self._image.resize((width_px, height_px), self._RESAMPLING[resample], box=self._box)
        return np.asarray(whole.crop(crop))

    def part(
        self, size_px: tuple[int, int], part: tuple[float, float, float, float]
    ) -> NDArray[np.uint8]:
        """Returns a part of the image, resized: uint8 (H, W, 3).

        Args:
            size_px: the width and the height of what is returned.
            part: left, top, right and bottom, as shares of the sides.
        """
        left, top, right, bottom = self._box
        width, height = right - left, bottom - top
        box = (
            left + part[0] * width,
            top + part[1] * height,
            left + part[2] * width,
            top + part[3] * height,
        )
        return np.asarray(self._image.resize(size_px, Image.Resampling.LANCZOS, box, REDUCING_GAP))

    def fitted(self, longest_px: int) -> NDArray[np.uint8]:
        """Returns uint8 (H, W, 3), reduced so that the longer side is at most `longest_px`."""
        return np.asarray(self.shrunk(longest_px))

    def shrunk(self, longest_px: int, reducing_gap: float | None = None) -> Image.Image:
        """Returns a picture, reduced so that the longer side is at most `longest_px`.

        Args:
            longest_px: of the longer side.
            reducing_gap: means of whole blocks are taken first, at this many times the size, which
                is faster and a little less exact; None for not.
        """
        width_px, height_px = size_px = self._fitted_px(longest_px)
        if self._box == (0.0, 0.0, float(width_px), float(height_px)):
            return self._image
        return self._image.resize(size_px, Image.Resampling.BILINEAR, self._box, reducing_gap)

    @property
    def reduction(self) -> int:
        """By which number the sides were divided when the image was decoded: 1, 2, 4 or 8."""
        return round(self.width_px / (self._box[2] - self._box[0]))

    def reduced(self, factor: int) -> "Pixels":
        """Returns the image with means of blocks of `factor` x `factor` pixels."""
        box = self._box
        return Pixels(
            self._image.reduce(factor),
            (self.width_px, self.height_px),
            (box[0] / factor, box[1] / factor, box[2] / factor, box[3] / factor),
            self.warnings,
        )

    def _fitted_px(self, longest_px: int) -> tuple[int, int]:
        factor = min(1.0, longest_px / max(self.width_px, self.height_px))
        return max(1, round(self.width_px * factor)), max(1, round(self.height_px * factor))

    def array(self) -> NDArray[np.uint8]:
        """Returns all pixels as uint8 (H, W, 3)."""
        return np.asarray(self._image)


class Decoder:
    """Decodes untrusted bytes within limits; thread-safe."""

    def __init__(self, limits: ImageLimits) -> None:
        """Sets the limits, and Pillow's own limit for the whole process as a second check."""
        self._limits = limits
        Image.MAX_IMAGE_PIXELS = 2 * limits.max_pixels
        # Pillow's lines quote the file, and there can be as many as it has tags.
        logging.getLogger("PIL").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)

    def decode(self, content: bytes, min_px: tuple[int, int] | None = None) -> Pixels:
        """Returns the image as upright RGB.

        Args:
            content: the encoded image.
            min_px: minimum width and height.  A larger JPEG may be decoded at 1/2, 1/4 or 1/8 of
                its size, but not below this; None decodes at full size.

        Raises:
            ImageTooLarge: the image has too many bytes.
            TooManyPixels: it has too many pixels, or its sides differ too much.
            UnsupportedFormat: its format is not one of `readable_formats`, or its colour mode is
                refused.
            UndecodableImage: it is not an image, or damaged.
        """
        with self._opened(content) as (container, image_format):
            return self._read(container, image_format, min_px)

    def decode_clean(
        self,
        content: bytes,
        min_px: tuple[int, int] | None = None,
        anew_px: tuple[int, int] | None = None,
    ) -> tuple[Pixels, bytes | None]:
        """Returns an image, and a file with nothing but its picture.

        Args:
            content: the encoded image.
            min_px: see `decode`; counts only where there is such a file.
            anew_px: the same, where there is none.

        Returns:
            The pixels; and a file of the same format that has the same pixels, but neither metadata
            nor anything else.  None if there is none without encoding the picture anew.

        Raises:
            CategorizerError: see `decode`.
        """
        with self._opened(content) as (container, image_format):
            is_turned = (container.orientation or 1) != 1
            clean = container.content if container.is_clean and not is_turned else None
            return self._read(container, image_format, min_px if clean else anew_px), clean

    @contextmanager
    def _opened(self, content: bytes) -> Iterator[tuple[Container, str]]:
        """Yields what the decoder gets, and the format; errors of the block become ours.

        Raises:
            CategorizerError: see `decode`.
        """
        if len(content) > self._limits.max_bytes:
            raise ImageTooLarge(
                f"the image has {len(content)} bytes; at most {self._limits.max_bytes} are allowed"
            )
        failpoints.hit("image.decoding", content)
        image_format = format_of(content)
        check_readable(image_format)
        if image_format == "WEBP":
            # Pillow allocates the canvas when it opens a WebP file: 34 bytes can need 1 GB.
            self._check_shape(*webp_size(content))
        try:
            yield self._contained(content, image_format), image_format
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise self._too_many_pixels() from error
        except (TooManyPixels, UnsupportedFormat, UndecodableImage):
            raise
        except Exception as error:
            raise UndecodableImage(f"the {image_format} image is damaged or truncated") from error

    def _contained(self, content: bytes, image_format: str) -> Container:
        """Returns what the decoder gets, and what the bytes around the pixels say."""
        limits = self._limits
        match image_format:
            case "JPEG":
                return read_jpeg(content, limits.max_tags, limits.max_jpeg_scans)
            case "PNG":
                return read_png(content, limits.max_tags)
            case "TIFF":
                return read_tiff(content, limits.max_tags)
            case "WEBP":
                return read_webp(content, limits.max_tags)
            case "GIF":
                return read_gif(content, limits.max_tags)
            case "BMP":
                return read_bmp(content, limits.min_rows_share)
            case "AVIF" | "HEIF":
                return read_heif(content)
        return Container(content)

    def _read(
        self, container: Container, image_format: str, min_px: tuple[int, int] | None
    ) -> Pixels:
        content, is_truncated = container.content, container.is_truncated
        if isinstance(container, Png) and is_truncated and container.header is not None:
            self._check_shape(container.header.width_px, container.header.height_px)
            content, share = container.mended()
            self._check_rows(share)
        with Image.open(io.BytesIO(content), formats=(image_format,)) as image:
            self._check_shape(image.width, image.height)
            size_px = image.size
            box: Box = None
            if min_px is not None and image_format == "JPEG":
                drafted = image.draft(None, min_px)
                box = drafted and drafted[1]
            image.load()
            if isinstance(container, Jpeg):
                is_truncated = self._is_cut(container, image)
            if box is None:
                size_px = image.size  # Pillow itself rotates TIFF images when it loads them
                self._check_shape(*size_px)
            turn = UPRIGHT.get(container.orientation or orientation_of(image, image_format) or 1)
            found = (ImageWarning.TRUNCATED,) if is_truncated else ()
            return upright(rgb(image, container.max_sample), turn, size_px, box, found)

    def _is_cut(self, jpeg: Jpeg, image: Image.Image) -> bool:
        """Returns whether a JPEG lacks its end or its last rows.

        Raises:
            UndecodableImage: it lacks too many.
        """
        corner = image.getpixel((image.width - 1, image.height - 1))
        looks_missing = MISSING_GREY.issuperset(corner if isinstance(corner, tuple) else (corner,))
        if not jpeg.is_truncated and jpeg.covers(closed_only=True) and not looks_missing:
            return False
        if not jpeg.covers(closed_only=False):
            self._check_rows(0.0)
        share = 1.0
        if looks_missing or not jpeg.covers(closed_only=True):
            share = rows_share(jpeg)
        self._check_rows(share)
        return jpeg.is_truncated or share < 1.0

    def _check_rows(self, share: float) -> None:
        if share < self._limits.min_rows_share:
            raise UndecodableImage(
                f"the image is truncated: {share:.0%} of its rows are there; "
                f"at least {self._limits.min_rows_share:.0%} are needed"
            )

    def _check_shape(self, width_px: int, height_px: int) -> None:
        if width_px < 1 or height_px < 1:
            raise UndecodableImage("the image has no pixels")
        limits = self._limits
        longer, shorter = max(width_px, height_px), min(width_px, height_px)
        if longer > limits.max_side_px or width_px * height_px > limits.max_pixels:
            raise self._too_many_pixels(f"the image has {width_px} x {height_px} pixels; ")
        if longer / shorter > limits.max_aspect_ratio:
            raise TooManyPixels(
                f"one side of the image is {longer / shorter:.0f} times the other; "
                f"at most {limits.max_aspect_ratio:g} times is allowed"
            )

    def _too_many_pixels(self, prefix: str = "") -> TooManyPixels:
        limits = self._limits
        return TooManyPixels(
            f"{prefix}at most {limits.max_pixels} pixels, "
            f"{limits.max_side_px} of them on one side, are allowed"
        )


def reduction_of(size_px: tuple[int, int], min_px: tuple[int, int]) -> int:
    """Returns by which number `decode` divides the sides of a JPEG: 1, 2, 4 or 8."""
    most = min(size_px[0] // min_px[0], size_px[1] // min_px[1])
    return max(number for number in REDUCTIONS if number <= max(1, most))


def orientation_of(image: Image.Image, image_format: str) -> int | None:
    """Returns the EXIF orientation that is still to be applied; None if there is none."""
    # AVIF has it in properties, of which Pillow makes EXIF. libheif has applied that of HEIC.
    exif = image.info.get("exif", b"") if image_format in ("WEBP", "AVIF") else b""
    return exif_orientation(exif)


def rows_share(jpeg: Jpeg) -> float:
    """Returns the share of the rows of a JPEG for which it has data.

    A decoder that runs out of data invents the rest. It invents something else if other bits follow
    the data, and rows that depend on them are missing.
    """
    first, second = (eighth(content) for content in (jpeg.content, jpeg.padded()))
    differs = np.flatnonzero((first != second).reshape(len(first), -1).any(axis=1))
    return float(differs[0]) / len(first) if len(differs) else 1.0


def eighth(content: bytes) -> NDArray[np.uint8]:
    """Returns a JPEG, decoded at an eighth of its size."""
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        image.draft(None, (1, 1))
        return np.asarray(image)


def upright(
    image: Image.Image,
    turn: Image.Transpose | None,
    size_px: tuple[int, int],
    box: Box,
    found: tuple[ImageWarning, ...],
) -> Pixels:
    """Returns the image, its size and its box after the transposition."""
    if turn is None:
        return Pixels(image, size_px, box, found)
    if turn in SWAPS_SIDES:
        size_px = size_px[1], size_px[0]
    if box is not None:
        box = transposed_box(box, image.size, turn)
    return Pixels(image.transpose(turn), size_px, box, found)


def transposed_box(
    box: tuple[float, float, float, float], size_px: tuple[int, int], turn: Image.Transpose
) -> tuple[float, float, float, float]:
    """Returns the place of a part of an image after the transposition; `size_px` is before it."""
    left, top, right, bottom = box
    width, height = size_px
    if turn in SWAPS_SIDES:  # transpose first
        left, top, right, bottom = top, left, bottom, right
        width, height = height, width
    if turn in MIRRORS_COLUMNS:
        left, right = width - right, width - left
    if turn in MIRRORS_ROWS:
        top, bottom = height - bottom, height - top
    return left, top, right, bottom


def rgb(image: Image.Image, max_sample: int | None = None) -> Image.Image:
    """Returns the image as RGB, by the table in the module's docstring.

    Args:
        image: the decoded image.
        max_sample: the value that is white, if the file says that not all of 16 bits are used.

    Raises:
        UnsupportedFormat: the colour mode is refused.
    """
    if image.format in ("BMP", "DIB") and has_empty_alpha(image):
        image = image.convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        over = Image.new("RGB", image.size, (255, 255, 255))
        over.paste(image, mask=image.getchannel("A"))
        return over
    if image.mode == "RGB":
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        samples = np.clip(np.asarray(image), 0, 65_535)
        # A file that is scaled to 16 bits all the same, as PNG demands, has larger samples.
        white = max_sample if max_sample and samples.max() <= max_sample else 65_535
        image = Image.fromarray(np.rint(samples / (white / 255)).astype(np.uint8), "L")
    if image.mode in CONVERTED_BY_PILLOW:
        return image.convert("RGB")
    raise UnsupportedFormat(f"images of colour mode {image.mode} are not supported")


def has_empty_alpha(image: Image.Image) -> bool:
    """Returns whether alpha is 0 everywhere: Windows leaves it so in pictures without alpha."""
    return "A" in image.getbands() and image.getchannel("A").getextrema() == (0, 0)
