"""The VAE's encoder run layer by layer, so that its inner levels are handed out as values.

B, 3, H, W: RGB in [-1, 1]; h, w: latent; level i of the encoder has (H / 2^i, W / 2^i).
"""

from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from .taps import layer_pairs


def encode_with_levels(vae: AutoencoderKL, images: Tensor) -> tuple[DiagonalGaussianDistribution, tuple[Tensor, ...]]:
    """The posterior of ``vae.encode(images)``, bit for bit, and the features before each downsampling.

    Args:
        vae: Image autoencoder.
        images: (B, 3, H, W), of its type.

    Returns:
        Posterior over (h, w), and one map (B, C_i, H / 2^i, W / 2^i) for each level but the latent's own.
    """
    encoder, levels = vae.encoder, []
    x = encoder.conv_in(images)
    for block in encoder.down_blocks:
        for resnet, attention in layer_pairs(block):
            x = resnet(x, None)
            x = x if attention is None else attention(x)
        for downsampler in block.downsamplers or ():
            levels.append(x)
            x = downsampler(x)
    x = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(encoder.mid_block(x))))
    return DiagonalGaussianDistribution(x if vae.quant_conv is None else vae.quant_conv(x)), tuple(levels)
