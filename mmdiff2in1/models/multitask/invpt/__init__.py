"""InvPT: a decoder in which the tokens of all tasks attend to each other while their maps grow (ECCV 2022).

Written from a description of what it computes. T tasks; C_i, h_i, w_i: width and size of stage i = 0, 1, 2, at 1/32,
1/16 and 1/8 of the image; maps of all tasks are (B, T, h, w, C), those of one task (B, C, h, w).
"""

from .head import InvPTHead

__all__ = ['InvPTHead']
