"""Training a ControlNet on label maps: the data it is fed, its loss by hand, and all the way to a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image

from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.datasets.scenes import CLASSES, PALETTE
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.pretraining.image_folder import ImageCaptionFolder, LatentCaptions
from mmdiff2in1.pretraining.label_folder import ConditionedLatents, LabelFolder, label_task
from mmdiff2in1.pretraining.objectives import DenoisingObjective
from mmdiff2in1.pretraining.options import PretrainingOptions
from mmdiff2in1.pretraining.run import pretrain
from mmdiff2in1.tasks import SurfaceNormal


@pytest.fixture
def folder(tmp_path):
    """Six images with class maps; the fifth is twice as large, the sixth higher."""
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate([(16, 16)] * 4 + [(32, 32), (24, 16)]):
        write_png(tmp_path / f'images/{i}.png', rng.integers(0, 256, (height, width, 3), np.uint8))
        write_png(tmp_path / f'labels/{i}.png', rng.integers(0, len(CLASSES), (height, width), np.uint8))
    return tmp_path


def test_maps_go_where_their_images_go(folder):
    images = ImageCaptionFolder(folder / 'images', (16, 16))
    labels = LabelFolder(folder / 'labels', images, label_task('semantic_segmentation', 'ScenesDataset'))
    assert len(labels) == len(images) == 12
    colours = np.array(PALETTE, np.uint8)
    raw = [np.asarray(Image.open(folder / f'labels/{i}.png')) for i in range(6)]
    for i, expected in ((0, raw[0]), (4, raw[4][1::2, 1::2]), (5, raw[5][4:20])):
        np.testing.assert_array_equal(labels.picture(i), colours[expected])
        np.testing.assert_array_equal(labels.picture(i + 6), colours[expected][:, ::-1])
    before = labels.digest()
    write_png(folder / 'labels/2.png', 1 - np.minimum(raw[2], 1))
    changed = LabelFolder(folder / 'labels', images, labels.task)
    assert changed.digest() != before


def test_mirrored_normals_face_the_other_way(folder):
    vectors = np.zeros((16, 16, 3))
    vectors[..., 0] = 1
    for i in range(4):
        write_png(folder / f'normal/{i}.png', SurfaceNormal().encode(vectors))
        (folder / f'few/{i}.png').parent.mkdir(exist_ok=True)
        (folder / f'images/{i}.png').rename(folder / f'few/{i}.png')
    images = ImageCaptionFolder(folder / 'few', (16, 16))
    labels = LabelFolder(folder / 'normal', images, label_task('normal', ''))
    assert labels.picture(1)[3, 3].tolist() == [255, 128, 128] and labels.picture(5)[3, 3].tolist() == [0, 128, 128]


def test_the_loss_by_hand_and_who_gets_a_gradient(tiny_diffusion, folder):
    d = tiny_diffusion
    d.add_controlnet(ControlNetModel.from_unet(d.unet, conditioning_embedding_out_channels=(4, 8)))
    torch.manual_seed(5)
    for parameter in d.controlnet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    d.requires_grad_(False).controlnet.requires_grad_(True)
    images = ImageCaptionFolder(folder / 'images', (16, 16))
    scale = d.vae.config.scaling_factor
    latents = LatentCaptions(images, d, keep_scale=True)
    assert d.vae.config.scaling_factor == scale
    with torch.no_grad():
        encoded = d.encode(images[0]['images'][None])[0]
    torch.testing.assert_close(latents[0]['latents'], encoded, atol=2e-3, rtol=2e-3)
    labels = LabelFolder(folder / 'labels', images, label_task('semantic_segmentation', 'ScenesDataset'))
    items = [ConditionedLatents(latents, labels)[i] for i in (0, 7)]
    batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
    np.testing.assert_allclose(batch['conditions'][1].permute(1, 2, 0) * 255, labels.picture(7), atol=1e-4)

    torch.manual_seed(2)
    loss = DenoisingObjective(d, drop_caption=0)(**batch)['loss_denoising']
    torch.manual_seed(2)
    t, noise = torch.randint(1000, (2,)), torch.randn(batch['latents'].shape)
    a = d.schedule.alphas_cumprod[t].view(-1, 1, 1, 1)
    z, context = a.sqrt() * batch['latents'] + (1 - a).sqrt() * noise, d.encode_text(['', ''])
    down, mid = d.controlnet(z, t, context, batch['conditions'], return_dict=False)
    output = d.unet(z, t, context, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
    torch.testing.assert_close(loss, ((output - noise) ** 2).mean())
    loss.backward()
    assert all(p.grad is not None for p in d.controlnet.parameters())
    assert all(p.grad is None for p in d.unet.parameters())


def test_from_label_maps_to_a_folder_that_creates_under_them(folder, tiny_diffusion):
    tiny_diffusion.save_folder(folder / 'base')
    options = PretrainingOptions(
        images=str(folder / 'images'), labels=str(folder / 'labels'), condition='semantic_segmentation',
        init=str(folder / 'base'), out=str(folder / 'out'), work_dir=str(folder / 'work'), size=(16, 16), batch_size=2,
        iters=3, validation=1, val_interval=3, bf16=False,
    )  # fmt: skip
    made = LatentDiffusion.from_pretrained(pretrain(options))
    base = tiny_diffusion.state_dict()
    for name, tensor in made.state_dict().items():
        if not name.startswith('controlnet.'):
            assert torch.equal(tensor, base[name].half().float()), name  # fp16 in the file, and otherwise untouched
    assert made.controlnet.controlnet_mid_block.weight.any()
    assert tuple(made.controlnet.config.conditioning_embedding_out_channels) == (16, 16)
    settings = json.loads((folder / 'out/training.json').read_text())
    assert settings['condition'] == 'semantic_segmentation' and 'labels' not in settings
    grid = Image.open(folder / 'work/controlnet/samples/iter_3.png')
    assert grid.size == (8 * 16, 2 * 16)  # six pairs, four in a row
    first = np.asarray(grid)[:16, :16]
    np.testing.assert_array_equal(first, np.array(PALETTE)[np.asarray(Image.open(folder / 'labels/0.png'))])
    # Finished: passed over; other labels are another training.
    assert pretrain(options) == folder / 'out'
    write_png(folder / 'labels/0.png', np.zeros((16, 16), np.uint8))
    with pytest.raises(ValueError, match='holds this stage of another config'):
        pretrain(options)


def test_what_is_missing_is_told(folder, tmp_path):
    options = PretrainingOptions(images=str(folder / 'images'), out=str(folder / 'out'), condition='depth', vae_iters=1)
    with pytest.raises(
        ValueError, match='a ControlNet needs a folder of label maps to learn from, and a trained model'
    ):
        pretrain(options)
    images = ImageCaptionFolder(folder / 'images', (16, 16))
    task = label_task('semantic_segmentation', 'ScenesDataset')
    Path(folder / 'labels/3.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 of 6 images have no label map, first .*3\.png'):
        LabelFolder(folder / 'labels', images, task)
    write_png(folder / 'labels/3.png', np.zeros((8, 16), np.uint8))
    with pytest.raises(ValueError, match=r'3\.png: found a map of \(8, 16\), expected \(16, 16\)'):
        LabelFolder(folder / 'labels', images, task)
    write_png(folder / 'labels/3.png', np.full((16, 16), 99, np.uint8))
    with pytest.raises(ValueError, match=r'3\.png: semantic_segmentation: a label map holds \[99\]'):
        LabelFolder(folder / 'labels', images, task)
    with pytest.raises(ValueError, match="there is no task 'edges'"):
        label_task('edges', '')
    with pytest.raises(ValueError, match="label_set='NoSet': expected a data set"):
        label_task('semantic_segmentation', 'NoSet')
