"""Agreement of training seeds: which latents come back, and what is shared by all.

Networks trained from different seeds give latents in another order, with other signs, mixed with
each other. They are compared by best match (a latent that some other seed has too), by one-to-one
pairs, by what all tables share (generalised canonical correlation) and as whole spaces (linear
CKA). People are joined by id, never by position.
"""

from imgwas.consensus.joining import join_latents
from imgwas.consensus.matching import THRESHOLD, align_latents, best_matches, match_latents
from imgwas.consensus.report import ConsensusReport, compare_seeds, reproduced_latents
from imgwas.consensus.shared import SharedComponents, share_components
from imgwas.consensus.spaces import linear_cka

__all__ = [
    "THRESHOLD",
    "ConsensusReport",
    "SharedComponents",
    "align_latents",
    "best_matches",
    "compare_seeds",
    "join_latents",
    "linear_cka",
    "match_latents",
    "reproduced_latents",
    "share_components",
]
