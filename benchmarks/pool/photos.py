"""Makes img2dataset shards of photo-like JPEGs to measure on: no photo is needed for that."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from selffilter.pool.writing import write_tar


def jpeg(seed: int, side: int, quality: int = 85) -> bytes:
    """Return a JPEG of smooth shapes under a little grain; 256 px come to about 20 kB."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    grain = rng.normal(0, 6, smooth.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(
        out, "JPEG", quality=quality
    )
    return out.getvalue()


def write_photo_pool(folder: Path, shards: int, samples_a_shard: int, side: int = 256) -> list[str]:
    """Write shards as img2dataset does (jpg, json with uid, txt), if they are not there.

    Returns:
        The uids, as 32 hex digits, in the order of the rows.
    """
    pictures = [jpeg(seed, side) for seed in range(64)]
    uids = []
    for shard in range(shards):
        samples = []
        for place in range(samples_a_shard):
            key = f"{shard:05d}{place:04d}"
            uid = hashlib.md5(key.encode()).hexdigest()
            uids.append(uid)
            about = {"uid": uid, "url": f"https://example.org/{key}.jpg", "width": side,
                     "height": side, "caption": f"photo number {key}", "key": key,
                     "status": "success", "sha256": hashlib.sha256(key.encode()).hexdigest(),
                     "exif": "{}" * 100}  # fmt: skip
            members = {
                "jpg": pictures[(place * 7 + shard) % 64],
                "json": json.dumps(about).encode(),
                "txt": f"photo number {key} of a bench".encode(),
            }
            samples.append((key, members))
        path = folder / f"{shard:05d}.tar"
        if not path.exists():
            write_tar(path, samples)
    return uids
