"""How the examples read an image and format an answer. Copy this file together with the example that you use.

Files of more than 8 bits need imagecodecs if the model was trained with `--levels`, or if Pillow reads them wrongly
(JPEG 2000, TIFF of 9 to 15 bits): pip install imagecodecs
"""

import numpy as np
from PIL import Image, ImageOps

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
ORIENTATION, TIFF_BITS = 0x0112, 258


def read_image(path, height, width, rule):
    """uint8 (1, height, width, 3): upright, over white where it is transparent, resized as the model was trained.

    rule : METHOD:SHARE:FILTER:LEVELS; the later parts may be missing
    """
    method, share, name, levels = (*rule.split(":"), "", "", "")[:4]
    share = float(share or 1)
    image = read_deep(path, levels or "full")
    if image is None:
        image = read_plain(path, int(np.ceil(height / share)), int(np.ceil(width / share)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    return resize(image.convert("RGB"), height, width, method, share, FILTERS[name or "bilinear"])[None]


def read_plain(path, height, width):
    """An image, upright; a JPEG is decoded only as finely as the height and width need."""
    with open(path, "rb") as opened, Image.open(opened) as file:  # given a path, Pillow turns plain TIFF files twice
        if file.format in ("JPEG", "MPO"):  # Pillow turns a TIFF file on loading
            sideways = file.getexif().get(ORIENTATION, 1) >= 5
            file.draft(None, (height, width) if sideways else (width, height))
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray(to_8_bits(np.asarray(image), 16))
    return image


def read_deep(path, levels):
    """A PNG, TIFF or JPEG 2000 file of more than 8 bits, read by levels; None for files that Pillow reads correctly."""
    with Image.open(path) as file:
        turned = Image.Exif()
        turned[ORIENTATION] = file.getexif().get(ORIENTATION, 1)
        kind, bits = file.format, 8
        if kind == "TIFF":
            bits = max(file.tag_v2.get(TIFF_BITS, (1,)))
    with open(path, "rb") as file:
        content = file.read()
    if kind == "PNG":
        bits = content[24]
    elif kind == "JPEG2000":
        bits = (content[content.index(b"\xff\x4f\xff\x51") + 42] & 127) + 1
    if bits <= 8 or (levels == "full" and kind != "JPEG2000" and bits == 16):
        return None
    import imagecodecs

    decode = {"PNG": imagecodecs.png_decode, "TIFF": imagecodecs.tiff_decode, "JPEG2000": imagecodecs.jpeg2k_decode}
    values = decode[kind](content)
    values = values.reshape(*values.shape[:2], -1).astype(np.int64)
    alpha = values.shape[2] in (2, 4)
    shown = to_8_bits(values, bits)
    colours = values[..., :-1] if alpha else values
    if levels.endswith("bit") and bits == 16:
        used = int(levels.removesuffix("bit"))
        shown = to_8_bits(np.minimum(values, (1 << used) - 1), used)
    elif levels in ("minmax", "percentile"):
        low, high = (colours.min(), colours.max()) if levels == "minmax" else np.percentile(colours, (1, 99))
        if high > low:
            spread = np.clip((colours - low) / (high - low), 0, 1)
            shown[..., : colours.shape[2]] = np.floor(255 * spread + 0.5).astype(np.uint8)
    image = Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else shown)
    image.info["exif"] = turned.tobytes()
    return ImageOps.exif_transpose(image)


def to_8_bits(values, bits):
    """Integers of the given number of bits, rounded to 0 to 255."""
    most = (1 << bits) - 1
    return ((values.astype(np.int64) * 510 + most) // (2 * most)).astype(np.uint8)


def resize(image, height, width, method, share, resampling):
    """uint8 (height, width, 3): all of the image, its middle, or all of it within grey borders."""
    across, down = width / image.width, height / image.height
    if method == "pad":
        scale = min(across, down)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        padded = Image.new("RGB", (width, height), (127, 127, 127))
        corner = ((width - inner[0]) // 2, (height - inner[1]) // 2)
        padded.paste(image.resize(inner, resampling), corner)
        return np.asarray(padded)
    if method == "crop":
        across = down = max(across, down)
    elif share == 1:
        return np.asarray(image.resize((width, height), resampling))
    left = max(0.0, (image.width - share * width / across) / 2)
    top = max(0.0, (image.height - share * height / down) / 2)
    return np.asarray(image.resize((width, height), resampling, (left, top, image.width - left, image.height - top)))


def answer(probabilities, classes, thresholds):
    """What `featx predict` prints: the likeliest class and its confidence, after any labels of a multi-label model."""
    order = np.argsort(-probabilities, kind="stable")
    likeliest = f"{classes[order[0]]} {probabilities[order[0]]:.1%}"
    if thresholds is None:
        return likeliest
    given = [classes[i] for i in order if probabilities[i] >= thresholds[classes[i]]]
    return f"{' | '.join(given) or 'no label'} ({likeliest})"
