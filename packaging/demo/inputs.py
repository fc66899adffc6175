"""Files for a server to read: photographs and feature blocks, made when it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = 16
BLOCKS = 32
BLOCK_BYTES = 1 << 20


def make_images(folder: Path) -> list[Path]:
    """JPEGs of 800 x 600 with clouds and a little grain; those that are there, if any."""
    if out := sorted(folder.glob("*.jpg")):
        return out
    random = np.random.default_rng(3)
    for i in range(IMAGES):
        clouds = Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8)).resize((800, 600))
        grain = random.normal(0, 6, (600, 800, 1))
        path = folder / f"{i:04}.jpg"
        Image.fromarray(np.clip(np.asarray(clouds) + grain, 0, 255).astype(np.uint8)).save(path, quality=88)
        out.append(path)
    return out


def make_blocks(folder: Path) -> list[Path]:
    if out := sorted(folder.glob("*.bin")):
        return out
    random = np.random.default_rng(5)
    for i in range(BLOCKS):
        path = folder / f"{i:04}.bin"
        path.write_bytes(random.bytes(BLOCK_BYTES))
        out.append(path)
    return out
