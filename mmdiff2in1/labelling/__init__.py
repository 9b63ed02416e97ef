"""Labels that are written into a store of created images before a training."""

from .free_mask import filtered, free_mask, hardness_scores

__all__ = ['filtered', 'free_mask', 'hardness_scores']
