"""TaskPrompter (Ye and Xu, ICLR 2023): a ViT that carries a prompt for each task, and reads its features by them."""

from .head import TaskPrompterHead
from .vit import TaskPrompterViT

__all__ = ['TaskPrompterHead', 'TaskPrompterViT']
