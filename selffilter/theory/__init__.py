"""The linear theory of filtering by a teacher, reproduced and carried further.

The model is the one of "Understanding the Gain from Data Filtering in Multimodal Contrastive
Learning" (arXiv 2512.14230): two views of one latent, of which a share is mismatched; a linear
contrastive loss with a closed-form minimiser; an error in sines of principal angles. Here every
question about filtering by one's own model can be asked a thousand times on a laptop.

This room stands alone: numpy, matplotlib and rich; it imports nothing of the rest of selffilter.

Axes in names, used throughout: ``n`` pairs, ``d`` image dimensions, ``e`` text dimensions (the
paper's d-tilde), ``r`` latent dimensions. So ``x_nd`` is a block of images, one a row, and
``y_ne`` the block of texts paired with it (the paper's x-tilde).
"""

from selffilter.theory.bounds import paper_filtered_rate, paper_unfiltered_rate
from selffilter.theory.covariance import CrossCovariance
from selffilter.theory.filtering import fit, oracle_fit, score_pool, teacher_student
from selffilter.theory.first_order import FirstOrder
from selffilter.theory.loop import LoopSettings, self_filter
from selffilter.theory.model import BimodalModel, Pairs, Pool
from selffilter.theory.solution import LinearClip, representation_error, sin_theta, solve
from selffilter.theory.threshold import THRESHOLD_RULES, estimate_clean_share, half_mean_threshold

__all__ = [
    "THRESHOLD_RULES",
    "BimodalModel",
    "CrossCovariance",
    "FirstOrder",
    "LinearClip",
    "LoopSettings",
    "Pairs",
    "Pool",
    "estimate_clean_share",
    "fit",
    "half_mean_threshold",
    "oracle_fit",
    "paper_filtered_rate",
    "paper_unfiltered_rate",
    "representation_error",
    "score_pool",
    "self_filter",
    "sin_theta",
    "solve",
    "teacher_student",
]
