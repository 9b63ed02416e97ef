"""DiffusionBackbone over Stable Diffusion 3: whole segmentors, one training step.

Tiny: patches of 2 × 2 latent cells are 4 × 4 pixels; blocks are 32 wide.
"""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny_pipelines import stable_diffusion_3

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.models import DiffusionBackbone

FEATURE = dict(preset='released', timestep=100)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp('sd3')
    stable_diffusion_3().save_pretrained(path)
    return str(path)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def pictures(batch: int = 2, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def segmentor(folder: str, **backbone) -> dict:
    head = dict(
        type='FCNHead', in_channels=64, in_index=0, channels=8, num_convs=1, concat_input=False, dropout_ratio=0,
        num_classes=3, norm_cfg=dict(type='BN'), align_corners=False,
    )  # fmt: skip
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(16, 24)),
        backbone=dict(type='DiffusionBackbone', diffusion=folder, feature=FEATURE, **backbone),
        decode_head=head,
        test_cfg=dict(mode='whole'),
    )


def samples(kinds: list[bool]) -> list[SegDataSample]:
    made = []
    for synthetic in kinds:
        shape = dict(img_shape=(16, 24), ori_shape=(16, 24), pad_shape=(16, 24))
        sample = SegDataSample(metainfo=dict(synthetic=synthetic, **shape))
        labels = torch.randint(0, 3, (1, 16, 24), generator=torch.Generator().manual_seed(len(made)))
        sample.gt_sem_seg = PixelData(data=labels)
        made.append(sample)
    return made


def total(losses: dict) -> torch.Tensor:
    return sum(value for name, value in losses.items() if 'loss' in name)


def test_features_by_hand(folder):
    backbone, images = DiffusionBackbone(folder, feature=FEATURE | dict(posterior='mode')).eval(), pictures(2, 14, 24)
    assert backbone.out_channels == [64] and backbone.taps == ('block.0', 'block.1')
    d = backbone.diffusion
    with torch.no_grad():
        (found,) = backbone(images)
        rows = torch.cat([images, images[:, :, -1:], images[:, :, -1:]], 2)  # 14 rows become 16
        noise = torch.randn(4, 8, 12, generator=torch.Generator().manual_seed(1))
        sigma = 3 * 0.1 / (1 + 2 * 0.1)
        z = (1 - sigma) * d.encode(rows) + sigma * noise
        tokens, pooled = d.encode_prompt(['', ''])
        seen = d.features(z, torch.tensor([100, 100]), tokens, pooled, taps=backbone.taps).taps
    torch.testing.assert_close(found, torch.cat([seen['block.0'], seen['block.1']], 1), atol=1e-4, rtol=1e-4)
    assert found.shape == (2, 64, 4, 6)


def test_a_checkpoint_carries_the_whole_prompt(folder):
    backbone = DiffusionBackbone(folder, feature=FEATURE)
    state = backbone.state_dict()
    assert state['tokens'].shape == (333, 96) and state['pooled'].shape == (64,)
    assert any(name.startswith('diffusion.transformer.transformer_blocks.1.') for name in state)


@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_a_segmentor_trains_a_step(folder, regime):
    torch.manual_seed(0)
    model = MODELS.build(segmentor(folder, regime=regime)).train()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    of_transformer = [name for name in trained if name.startswith('backbone.diffusion.transformer.')]
    assert bool(of_transformer) == (regime == 'finetune')
    assert not [name for name in trained if not name.startswith(('backbone.diffusion.transformer.', 'decode_head.'))]
    optimizer = torch.optim.SGD(trained.values(), lr=0.05)
    losses = []
    for _ in range(6):
        torch.manual_seed(1)  # the same draws of posterior and noise
        loss = total(model.loss(pictures(), samples([False, False])))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in trained.values())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_what_is_frozen_is_shared(folder, regime):
    torch.manual_seed(0)
    model = MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=segmentor(folder, regime=regime))).train()
    exploiter, creator = model.exploiter.backbone.diffusion, model.creator.backbone.diffusion
    calls = []
    for each in {id(net): net for net in (exploiter.transformer, creator.transformer)}.values():
        each.pos_embed.register_forward_hook(lambda *_: calls.append(1))
    total(model.loss(pictures(3), samples([False, False, True]))).backward()
    assert len(calls) == (1 if regime == 'frozen' else 2)
    assert (exploiter.transformer is creator.transformer) == (regime == 'frozen')
    assert exploiter.vae is creator.vae and exploiter.text is creator.text
    assert not [name for name, p in model.creator.named_parameters() if p.requires_grad or p.grad is not None]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(feature=dict(taps='all', map_levels=[]), classes=['wall']),
            "StableDiffusion3 cannot be shown one token per class, which prompt='class_embeddings' means",
        ),
        (dict(classes=['wall']), "unknown taps 'vpd'; known: all"),
        (dict(feature=FEATURE | dict(taps=['block.2'])), r"unknown taps \['block.2'\]; this transformer has block.0"),
        (dict(feature=FEATURE | dict(timestep=1000)), 'timestep 1000 is outside 0 … 999'),
    ],
)
def test_impossible_configurations_say_why(folder, options, message):
    with pytest.raises(ValueError, match=message):
        DiffusionBackbone(folder, **options)
