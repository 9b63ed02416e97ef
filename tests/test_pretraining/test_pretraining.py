"""What is learned from scratch: losses by hand, and the images and latents they are fed."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.pretraining.image_folder import ImageCaptionFolder, LatentCaptions
from mmdiff2in1.pretraining.objectives import AutoencoderObjective, DenoisingObjective


def test_autoencoder_losses_by_hand(tiny_diffusion):
    vae, images = tiny_diffusion.vae, torch.rand(2, 3, 8, 16) * 2 - 1
    torch.manual_seed(1)
    losses = AutoencoderObjective(vae, kl_weight=0.01)(images)
    torch.manual_seed(1)
    mean, log_variance = vae.quant_conv(vae.encoder(images)).chunk(2, 1)
    sigma = (log_variance / 2).exp()
    z = mean + sigma * torch.randn(mean.shape)
    error = vae.decoder(vae.post_quant_conv(z)) - images
    standard = torch.distributions.Normal(0.0, 1.0)
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, sigma), standard).mean()
    assert losses.keys() == {'loss_mse', 'loss_l1', 'loss_kl'}
    torch.testing.assert_close(losses['loss_mse'], (error**2).mean())
    torch.testing.assert_close(losses['loss_l1'], 0.2 * error.abs().mean())
    torch.testing.assert_close(losses['loss_kl'], 0.01 * kl)
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in vae.parameters())


def test_autoencoder_validation_error_is_of_the_mode_and_clamped(tiny_diffusion):
    vae, images = tiny_diffusion.vae, torch.rand(2, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        vae.decoder.conv_out.bias += 2  # most of the output lies above 1
        found = AutoencoderObjective(vae)(images, mode='predict')
        made = vae.decode(vae.encode(images).latent_dist.mean).sample
    assert made.max() > 1
    as_pixels = (made.clamp(-1, 1) + 1) / 2 - (images + 1) / 2
    for i in range(2):
        torch.testing.assert_close(found[i]['mse'], (as_pixels[i] ** 2).mean())


@pytest.mark.parametrize('kind', ['epsilon', 'v_prediction', 'sample'])
def test_denoising_loss_by_hand(tiny_diffusion_config, kind):
    torch.manual_seed(0)
    scheduler = tiny_diffusion_config['scheduler'] | dict(prediction_type=kind)
    d = LatentDiffusion.from_config(tiny_diffusion_config | dict(scheduler=scheduler))
    untouched = copy.deepcopy(d)
    objective = DenoisingObjective(d, drop_caption=0.5)
    latents, ids = torch.randn(6, 4, 4, 8), d.text.token_ids(['a red ball'] * 6)
    torch.manual_seed(2)
    loss = objective(latents, ids)['loss_denoising']
    torch.manual_seed(2)
    t, noise, dropped = torch.randint(1000, (6,)), torch.randn(latents.shape), torch.rand(6, 1)[:, 0] < 0.5
    assert 0 < dropped.sum() < 6
    context = untouched.encode_text(['' if drop else 'a red ball' for drop in dropped])
    a = d.schedule.alphas_cumprod[t].view(-1, 1, 1, 1)
    z_t = a.sqrt() * latents + (1 - a).sqrt() * noise
    target = {'epsilon': noise, 'sample': latents, 'v_prediction': a.sqrt() * noise - (1 - a).sqrt() * latents}[kind]
    expected = ((untouched.unet(z_t, t, context).sample - target) ** 2).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is not None for name, p in objective.named_parameters())


def test_denoising_validation_is_the_same_each_time(tiny_diffusion):
    objective = DenoisingObjective(tiny_diffusion).eval()
    latents, ids = torch.randn(4, 4, 4, 4), tiny_diffusion.text.token_ids(['a wall'] * 4)
    with torch.no_grad():
        first, again = objective(latents, ids, 'predict'), objective(latents, ids, 'predict')
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        t = torch.tensor([125, 375, 625, 875])
        output = tiny_diffusion.unet(
            tiny_diffusion.schedule.add_noise(latents, noise, t), t, tiny_diffusion.encode_text(['a wall'] * 4)
        ).sample
    for i in range(4):
        assert first[i]['mse'] == again[i]['mse']
        torch.testing.assert_close(first[i]['mse'], ((output[i] - noise[i]) ** 2).mean())


@pytest.fixture
def images(tmp_path):
    """Three images of different shapes below a folder."""
    folder = tmp_path / 'images'
    (folder / 'more').mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name, shape in (('a.png', (8, 16)), ('b.png', (24, 16)), ('more/c.JPG', (20, 40))):
        Image.fromarray(draw.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(folder / name)
    return folder


CAPTIONS = {'b.png': 'B', 'a.png': 'A', 'more/c.JPG': 'C'}


def test_images_are_cropped_in_the_middle_and_mirrored(images):
    data = ImageCaptionFolder(images, (8, 16), CAPTIONS)
    assert data.names == ['a.png', 'b.png', 'more/c.JPG'] and len(data) == 6
    assert [data[i]['captions'] for i in range(6)] == ['A', 'B', 'C', 'A', 'B', 'C']
    for number, name, rows in ((0, 'a.png', slice(0, 8)), (1, 'b.png', slice(8, 16))):
        pixels = np.asarray(Image.open(images / name))[rows].transpose(2, 0, 1).astype(np.float64)
        np.testing.assert_allclose(data[number]['images'].numpy(), pixels / 127.5 - 1, atol=1e-6)
        assert torch.equal(data[number + 3]['images'], data[number]['images'].flip(-1))
    whole = Image.open(images / 'more/c.JPG').resize((16, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(data.images[2].numpy(), np.asarray(whole).transpose(2, 0, 1))


def test_latents_are_the_encoded_images_with_unit_deviation(images, tiny_diffusion):
    data = ImageCaptionFolder(images, (8, 16), CAPTIONS)
    latents = LatentCaptions(data, tiny_diffusion, batch_size=4)
    assert len(latents) == 6
    assert latents.latents.float().std() == pytest.approx(1, abs=2e-3)
    for i in range(6):
        with torch.no_grad():
            expected = tiny_diffusion.encode(data[i]['images'][None])[0]
        torch.testing.assert_close(latents[i]['latents'], expected, atol=2e-3, rtol=2e-3)  # kept in half precision
        assert torch.equal(latents[i]['token_ids'], tiny_diffusion.text.token_ids([data[i]['captions']])[0])


def test_latents_are_kept_for_these_images_and_this_autoencoder(images, tiny_diffusion, tmp_path, monkeypatch):
    data, file, encoded = ImageCaptionFolder(images, (8, 16), CAPTIONS), tmp_path / 'new' / 'latents.safetensors', []
    encode = type(tiny_diffusion).encode
    monkeypatch.setattr(
        type(tiny_diffusion), 'encode', lambda *args, **kwargs: encoded.append(1) or encode(*args, **kwargs)
    )

    def read(digest='of these'):
        encoded.clear()
        return LatentCaptions(data, tiny_diffusion, file=file, digest=digest).latents

    first = read()
    assert encoded
    assert torch.equal(read(), first) and not encoded
    assert torch.equal(read('of others'), first) and encoded
    with torch.no_grad():
        next(tiny_diffusion.vae.encoder.parameters()).mul_(1.5)
    assert not torch.equal(read('of others'), first) and encoded


def test_folders_and_captions_that_are_not_right(images, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere: no such folder'):
        ImageCaptionFolder(tmp_path / 'nowhere', (8, 8))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=r'no images \(.*\.png'):
        ImageCaptionFolder(tmp_path / 'empty', (8, 8))
    with pytest.raises(ValueError, match='no caption for 2 of the 3 images .* first b.png'):
        ImageCaptionFolder(images, (8, 8), {'a.png': 'A'})
    (images / 'b.png').write_bytes(b'not an image')
    with pytest.raises(ValueError, match=r'b\.png: found something that is no image'):
        ImageCaptionFolder(images, (8, 8))
