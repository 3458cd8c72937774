"""How the examples read an image and tell an answer. It goes along with the one that you copy."""

import numpy as np
from PIL import Image, ImageOps


def read_image(path, height, width, rule):
    """uint8 (1, height, width, 3): upright, over white where it is transparent, resized as the model was trained."""
    with Image.open(path) as file:
        sideways = file.getexif().get(0x0112, 1) >= 5  # the orientation of EXIF
        file.draft(None, (height, width) if sideways else (width, height))  # no JPEG is decoded larger than needed
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I;16"):
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    image = image.convert("RGB")
    if rule == "crop":
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    elif rule == "pad":
        scale = min(width / image.width, height / image.height)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        padded = Image.new("RGB", (width, height), (127, 127, 127))
        corner = ((width - inner[0]) // 2, (height - inner[1]) // 2)
        padded.paste(image.resize(inner, Image.Resampling.BILINEAR), corner)
        image = padded
    else:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)[None]


def answer(chances, classes, thresholds):
    """What `featx predict` says: the likeliest class and its confidence; the labels first where there are several."""
    order = np.argsort(-chances, kind="stable")
    likeliest = f"{classes[order[0]]} {chances[order[0]]:.1%}"
    if thresholds is None:
        return likeliest
    given = [classes[i] for i in order if chances[i] >= thresholds[classes[i]]]
    return f"{' | '.join(given) or 'no label'} ({likeliest})"
