"""Folders of embeddings as other tools write them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def hex_of(number):
    return f"{number:032x}"


def datacomp(folder, parts, compressed=False):
    """Parts: (stem, images, texts, uids); both models' arrays are there, l14 is b32 doubled."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, images, texts, uids in parts:
        wide = {"l14_img": np.tile(images, 2), "l14_txt": np.tile(texts, 2)}
        save = np.savez_compressed if compressed else np.savez
        dedup = np.arange(len(images), dtype=np.float32)
        save(folder / f"{stem}.npz", b32_img=images, b32_txt=texts, dedup=dedup, **wide)
        table = {
            "uid": [hex_of(uid) for uid in uids],
            "text": pa.array([None, *["a caption"] * (len(uids) - 1)], pa.string()),
            "clip_b32_similarity_score": pa.array((images * texts).sum(1), pa.float32()),
            "clip_l14_similarity_score": pa.array([None, *range(1, len(uids))], pa.float32()),
        }
        pq.write_table(pa.table(table), folder / f"{stem}.parquet")
    return folder


def clip_retrieval(folder, parts, digits=1):
    """Parts: (images, texts or None, columns of the metadata)."""
    for number, (images, texts, columns) in enumerate(parts):
        named = f"{number:0{digits}d}"
        (folder / "img_emb").mkdir(parents=True, exist_ok=True)
        (folder / "metadata").mkdir(parents=True, exist_ok=True)
        np.save(folder / "img_emb" / f"img_emb_{named}.npy", images)
        if texts is not None:
            (folder / "text_emb").mkdir(parents=True, exist_ok=True)
            np.save(folder / "text_emb" / f"text_emb_{named}.npy", texts)
        paths = [f"{number}-{place}" for place in range(len(images))]
        table = pa.table({"image_path": paths} | columns)
        pq.write_table(table, folder / "metadata" / f"metadata_{named}.parquet")
    return folder
