"""Which kind of embeddings a folder has."""

from __future__ import annotations

from pathlib import Path

from selffilter.errors import UserError
from selffilter.scoring.embeddings.clip_retrieval import open_clip_retrieval
from selffilter.scoring.embeddings.datacomp import Model, open_datacomp
from selffilter.scoring.embeddings.embeddings import Embeddings
from selffilter.scoring.embeddings.folder import NAME, open_folder


def open_embeddings(folder: Path, datacomp_model: Model = "l14") -> Embeddings:
    """Open a folder of embeddings of any of the kinds this package reads.

    Args:
        folder: Our own, clip-retrieval's, or DataComp's metadata.
        datacomp_model: Which of its two models' embeddings, for DataComp's.

    Raises:
        UserError: If it is none of them, or not sound.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of embeddings.")
    if (folder / NAME).exists():
        return open_folder(folder)
    if (folder / "img_emb").is_dir():
        return open_clip_retrieval(folder)
    if any(folder.glob("*.npz")):
        return open_datacomp(folder, datacomp_model)
    raise UserError(
        f"{folder} has no embeddings: neither {NAME} (ours), nor img_emb/ (clip-retrieval), nor "
        "*.npz (DataComp's metadata)."
    )
