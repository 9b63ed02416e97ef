"""The measurement: augmentation, scores, labels and weights by hand; killed and resumed = straight; arms are paired."""

import contextlib
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import scenes
import torch
from conftest import TINY_DIFFUSION
from images import creation, pools
from loop import arms, augmentation, created, features, jobs, learner, lockstep, scoring, streams

import mmdiff2in1.components  # noqa: F401
from mmdiff2in1.captions.recombined import recombined, split_caption
from mmdiff2in1.models.backbones import DiffusionBackbone
from mmdiff2in1.models.backbones.frozen_features import FrozenFeatures
from mmdiff2in1.models.self_improving import labelling
from mmdiff2in1.tasks import SemanticSegmentation

TASKS = pools.TASKS['scenes']
KEY = ('block', 'set', 'labels', 'seed', 'task', 'arm')
SIZE = 32


def unit(vectors):
    return vectors / vectors.norm(dim=1, keepdim=True)


@pytest.fixture
def targets():
    torch.manual_seed(0)
    return {
        'normal': unit(torch.randn(6, 3, SIZE, SIZE)),
        'semantic_segmentation': torch.randint(0, 11, (6, 1, SIZE, SIZE), dtype=torch.uint8),
        'depth': 1 + torch.rand(6, 1, SIZE, SIZE),
    }


class TestAugmentation:
    def test_labels_move_with_their_image(self, targets):
        """An image that shows its own label, one constant value per quadrant, still agrees with it."""
        classes = torch.zeros(6, 1, SIZE, SIZE, dtype=torch.uint8)
        classes[..., : SIZE // 2] = 3
        classes[:, :, SIZE // 2 :] += 5
        images = (classes / 10).expand(-1, 3, -1, -1)
        generator = torch.Generator().manual_seed(0)
        plain, _, moved = augmentation.augment(images, {'semantic_segmentation': classes}, TASKS, generator)
        label = moved['semantic_segmentation']
        agree = (plain[:, :1] - label / 10).abs() < 1e-4
        assert label.dtype == torch.int64 and not torch.equal(label, classes.long())
        assert agree.float().mean() > 0.9  # all but the blended pixels along the borders

    def test_values_change_as_the_tasks_say(self, targets):
        generator = torch.Generator().manual_seed(1)
        constant = {
            'normal': unit(torch.ones(6, 3, SIZE, SIZE)),
            'depth': torch.full((6, 1, SIZE, SIZE), 3.0),
        }
        _, _, moved = augmentation.augment(torch.rand(6, 3, SIZE, SIZE), constant, TASKS, generator)
        x, y, z = moved['normal'][:, :, 5, 7].T
        assert torch.equal(y, torch.full((6,), 3**-0.5)) and torch.equal(z, y)
        assert torch.equal(x.abs(), y) and {-1.0, 1.0} == set(x.sign().tolist())
        zoom = 3 / moved['depth'][:, 0, 0, 0]
        assert zoom.min() >= 1 and zoom.max() <= augmentation.MAX_ZOOM and zoom.unique().numel() == 6

    def test_plain_and_recoloured_are_the_same_crop(self, targets):
        images = torch.rand(6, 3, SIZE, SIZE)
        plain, recoloured, _ = augmentation.augment(images, {}, TASKS, torch.Generator().manual_seed(2))
        assert 0 <= recoloured.min() and recoloured.max() <= 1
        assert not torch.allclose(plain, recoloured, atol=0.05)
        for one, other in zip(plain.flatten(1), recoloured.flatten(1), strict=True):
            assert torch.corrcoef(torch.stack([one, other]))[0, 1] > 0.7

    def test_mirror_swaps_sides(self):
        ramp = torch.linspace(0, 1, SIZE).expand(8, 3, SIZE, SIZE)
        plain, _, moved = augmentation.augment(
            ramp, {'normal': unit(torch.ones(8, 3, SIZE, SIZE))}, TASKS, torch.Generator().manual_seed(3)
        )
        rising = plain[:, 0, 0, -1] > plain[:, 0, 0, 0]
        assert torch.equal(rising, moved['normal'][:, 0, 0, 0] > 0)
        assert rising.any() and not rising.all()

    def test_sides_change_places_where_the_task_has_some(self):
        """The left and the right arm, say: a mirror image shows them exchanged."""
        tasks = {'semantic_segmentation': SemanticSegmentation(11, mirrored_pairs=[(1, 2)])}
        labels = {'semantic_segmentation': torch.full((8, 1, SIZE, SIZE), 2, dtype=torch.uint8)}
        ramp = torch.linspace(0, 1, SIZE).expand(8, 3, SIZE, SIZE)
        plain, _, moved = augmentation.augment(ramp, labels, tasks, torch.Generator().manual_seed(3))
        rising = plain[:, 0, 0, -1] > plain[:, 0, 0, 0]
        assert torch.equal(moved['semantic_segmentation'][:, 0, 0, 0], torch.where(rising, 2, 1))


def old_normal(pairs):
    """As the loop scored before it took the package's metrics, here in float64; so do the next two."""
    cosine = torch.cat([(output * target).sum(1)[(target != 0).any(1)] for output, target in pairs])
    angle = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    within = {f'{limit:g}': 100 * (angle < limit).double().mean().item() for limit in (11.25, 22.5, 30.0)}
    rmse = angle.square().mean().sqrt().item()
    return {'mean': angle.mean().item(), 'median': angle.median().item(), 'rmse': rmse, **within}


def old_semantic_segmentation(pairs):
    confusion = torch.zeros(11, 11, dtype=torch.float64)
    for output, target in pairs:
        for predicted, true in zip(output.argmax(1).flatten().tolist(), target.flatten().int().tolist(), strict=True):
            if true != 255:
                confusion[true, predicted] += 1
    iou = 100 * confusion.diag() / (confusion.sum(0) + confusion.sum(1) - confusion.diag())
    return {'mIoU': iou.nanmean().item(), **{f'IoU/{k}': value for k, value in enumerate(iou.tolist())}}


def old_depth(pairs):
    output, target = (torch.cat([each.flatten() for each in side]) for side in zip(*pairs, strict=True))
    p, g = output[target > 0], target[target > 0]
    return {
        'rmse': (p - g).square().mean().sqrt().item(),
        'abs_rel': (p / g - 1).abs().mean().item(),
        'delta1': 100 * (torch.maximum(p / g, g / p) < 1.25).double().mean().item(),
    }


OLD = {'normal': old_normal, 'semantic_segmentation': old_semantic_segmentation, 'depth': old_depth}


class TestScores:
    @pytest.mark.parametrize('size', [SIZE, 12])
    @pytest.mark.parametrize('name', list(TASKS))
    def test_as_before_the_metrics_of_the_package(self, name, size, targets):
        """Names, order and values; outputs of the targets' size and enlarged."""
        task, target = TASKS[name], targets[name]
        target[:, :, :3] = task.invalid
        target[-1, :, 3, 3] = task.invalid  # an odd number of pixels has one median
        output = torch.randn(6, task.channels, size, size)
        if name == 'normal' and size == SIZE:
            output = target + 0.1 * output
        if name == 'depth':
            output = 1 + output.sigmoid()
        if name == 'semantic_segmentation':
            target[target == 7], output[:, 7] = 3, -20  # a class that is nowhere
        batches = list(zip(output.split(4), target.split(4), strict=True))
        found = scoring.scores(task, batches)
        pairs = [(task.resize_output(p, (SIZE, SIZE)).double(), g.double()) for p, g in batches]
        old = OLD[name](pairs)
        assert list(found) == list(old)
        if name == 'normal':  # the centre of a bin
            assert found.pop('median') == pytest.approx(old.pop('median'), abs=6e-4)
        assert found == pytest.approx(old, abs=1e-6, nan_ok=True)

    def test_normals_by_hand(self):
        """Two pixels at 0°, one at 90°; the fourth has no ground truth."""
        target = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 0]]).T.reshape(1, 3, 2, 2)
        output = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
        found = scoring.scores(TASKS['normal'], [(output, target)])
        assert found['mean'] == pytest.approx(30) and found['median'] == pytest.approx(0, abs=1e-3)
        assert found['rmse'] == pytest.approx(90 / math.sqrt(3)) and found['11.25'] == pytest.approx(200 / 3)

    def test_a_class_that_is_nowhere_does_not_count(self):
        output = torch.full((1, 11, 1, 1), -1.0)
        output[:, 4] = 1
        found = scoring.scores(TASKS['semantic_segmentation'], [(output, torch.full((1, 1, 4, 4), 4))])
        assert found['mIoU'] == 100 and math.isnan(found['IoU/0'])

    def test_depth_by_hand(self):
        """5 m everywhere; from ``max_depth`` on nothing counts."""
        target = torch.tensor([[4.0, 6.0, 10.0], [9.5, 0.0, 12.0]]).view(1, 1, 2, 3)
        found = scoring.scores(TASKS['depth'], [(torch.full((1, 1, 1, 1), 5.0), target)])
        assert found['rmse'] == pytest.approx(math.sqrt((1 + 1 + 4.5**2) / 3))
        assert found['abs_rel'] == pytest.approx((1 / 4 + 1 / 6 + 4.5 / 9.5) / 3)
        assert found['delta1'] == pytest.approx(100 / 3)  # 5/4 is not below 1.25


class TestLearner:
    CHANNELS = (8, 27, 27)

    def features(self, batch=4):
        torch.manual_seed(1)
        maps = tuple(torch.randn(batch, c, 16 // 2**i, 16 // 2**i) for i, c in enumerate(self.CHANNELS))
        return FrozenFeatures((SIZE, SIZE), pyramid=maps)

    def made(self, task='normal', **settings):
        """After one step, so that an arm of these settings has something to go on from."""
        torch.manual_seed(0)
        backbone = SimpleNamespace(
            out_channels=self.CHANNELS, regime='frozen', parameters=lambda: iter([torch.zeros(1)])
        )
        warm = learner.Learner(TASKS[task], backbone)
        if not settings:
            return warm
        return learner.Learner(TASKS[task], backbone, arms.Arm(name='x', pool='p', **settings), start=warm)

    def samples(self, task, targets, synthetic=0):
        """The last ones are synthetic, four in all."""
        parts = zip(targets[task][:4].split([4 - synthetic, synthetic]), (False, True), strict=True)
        return [
            sample
            for part, flag in parts
            for sample in learner.labelled(TASKS[task], part, (SIZE, SIZE), len(part), flag)
        ]

    def test_follow_is_the_moving_average(self):
        made = self.made()
        one = made.model
        for parameter in one.exploiter.parameters():
            parameter.data += 1
        before = [p.clone() for p in one.creator.parameters()]
        for _ in range(3):
            made.follow(0.9)
        for old, new in zip(before, one.creator.parameters(), strict=True):
            torch.testing.assert_close(new, old + 1 - 0.9**3)

    @pytest.mark.parametrize('task', list(TASKS))
    def test_loss_is_real_plus_weighted_synthetic(self, task, targets):
        values = {}
        for weight in (0.0, 1.0, 3.0):
            one = self.made(task, teacher='GivenLabel', weight=weight)
            loss, kept = one.step(self.features(), self.samples(task, targets, synthetic=2), 1.0, seed=5)
            values[weight] = loss.item()
            assert kept == 1
        assert values[3.0] - values[0.0] == pytest.approx(3 * (values[1.0] - values[0.0]), rel=1e-4)
        assert values[1.0] > values[0.0] > 0

    def test_an_arm_starts_equal_and_goes_its_own_way(self, targets):
        one, samples = self.made(), self.samples('normal', targets)
        one.step(self.features(), samples, 1.0, seed=0)
        other = learner.Learner(one.task, one.backbone, start=one)
        models = (one.model.exploiter, other.model.exploiter, other.model.creator)
        for a, b, c in zip(*(m.parameters() for m in models), strict=True):
            assert torch.equal(a, b) and torch.equal(a, c)
        first, _ = one.step(self.features(), samples, 1.0, seed=1)
        assert other.step(self.features(), samples, 1.0, seed=1)[0] == first
        for a, b in zip(one.model.exploiter.parameters(), other.model.exploiter.parameters(), strict=True):
            assert torch.equal(a, b) and a is not b

    def labels(self, one, seen):
        """What the model's rule makes of some features."""
        samples = learner.labelled(one.task, None, (SIZE, SIZE), len(seen), synthetic=True)
        found, shares = labelling.labelled(
            one.model.label_rule, one.model.creator, seen, samples, one.model.tasks, (SIZE, SIZE)
        )
        return torch.stack([sample.get(one.task.field).data for sample in found]), shares[one.task.name]

    def test_a_mirrored_teacher_labels_mirror_images_alike(self):
        """Features of a symmetric pair of images: the mean label of one is the mirror image of that of the other."""
        one, left = self.made(teacher='MirroredTeacher'), self.features()
        right = FrozenFeatures(left.size, pyramid=tuple(level.flip(-1) for level in left.pyramid))
        label, _ = self.labels(one, features.Viewed(**vars(left), view=right))
        mirrored, _ = self.labels(one, features.Viewed(**vars(right), view=left))
        torch.testing.assert_close(mirrored, one.task.flip_output(label))
        torch.testing.assert_close(label.norm(dim=1), torch.ones(4, SIZE, SIZE))
        assert not torch.allclose(self.labels(self.made(teacher='TeacherLabel'), left)[0], label, atol=1e-2)

    def test_a_weak_teacher_labels_the_other_view(self):
        seen = self.features()
        plain = FrozenFeatures(seen.size, pyramid=tuple(level + 1 for level in seen.pyramid))
        found, _ = self.labels(self.made(teacher='WeakTeacher'), features.Viewed(**vars(seen), view=plain))
        assert torch.equal(found, self.labels(self.made(teacher='TeacherLabel'), plain)[0])

    def test_low_confidence_is_left_out(self):
        label, kept = self.labels(self.made('semantic_segmentation', min_confidence=0.5), self.features())
        assert kept == pytest.approx((label != 255).float().mean().item()) and kept < 1
        assert self.labels(self.made('semantic_segmentation', teacher='TeacherLabel'), self.features())[1] == 1


def test_what_is_shown_can_be_picked():
    """Batches by name, one behind the other; a view is picked with the images that it belongs to."""
    names = ['real', 'pool', 'real, v', 'pool, v']
    images = {name: torch.tensor([i, i + 0.5]).view(2, 1, 1, 1) for i, name in enumerate(names)}
    shown = features.Shown.of(lambda each: FrozenFeatures((1, 1), pyramid=(each,)), images)
    seen = shown.batch(names[:2], names[2:])[torch.tensor([0, 3])]
    assert seen.pyramid[0].flatten().tolist() == [0.0, 1.5] and seen.view.pyramid[0].flatten().tolist() == [2.0, 3.5]


def test_streams_show_every_image_once_per_round():
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 3, SIZE, SIZE).contiguous()
    stream = streams.Stream(pools.Pool(images, {}, [''] * 6), 'x', 0, 4, {})
    shown = torch.cat([stream.batch(step).plain[:, 0, 0, 0] for step in range(3)])
    shown = ((shown + 1) * 127.5).round().int().tolist()
    assert sorted(shown[:6]) == sorted(shown[6:]) == list(range(6))
    assert torch.equal(stream.batch(2).images, stream.batch(2).images)
    other = streams.Stream(stream.pool, 'y', 0, 4, {})
    assert not torch.equal(other.batch(0).images, stream.batch(0).images)


def test_recombined_captions():
    red, empty = 'a bed in a room with red walls and a floor', 'an empty room with blue walls and a tiled floor'
    assert recombined(red, empty) == 'a bed in a room with blue walls and a tiled floor'
    assert recombined(empty, red) == 'an empty room with red walls and a floor'


class KilledError(Exception):
    pass


@pytest.fixture
def job(tmp_path, targets):
    """A small job on random images: one pool of them stands for the created ones."""
    torch.manual_seed(0)
    classes = ['floor', 'wall', 'ball']
    feature = dict(preset='vpd', latent_scale=True)
    backbones = {
        regime: DiffusionBackbone(TINY_DIFFUSION, classes, feature, regime=regime) for regime in ('frozen', 'finetune')
    }
    images = torch.randint(0, 256, (6, 3, SIZE, SIZE), dtype=torch.uint8)
    names = {'frozen': ('normal', 'semantic_segmentation'), 'finetune': ('normal',)}  # as in the queue: see jobs.py
    labelled = pools.Pool(images, targets, [''] * 6)
    other = pools.Pool(images.flip(0), {name: target.flip(0) for name, target in targets.items()}, [''] * 6)
    some = [
        arms.Arm(name='loop', pool='T600', teacher='WeakTeacher'),
        arms.Arm(name='truth', pool='unlabelled', teacher='GivenLabel'),
        arms.Arm(name='mirror', pool='T600', teacher='MirroredTeacher'),
        arms.Arm(name='only', pool='T600', real=False, teacher='FixedTeacher'),
    ]

    def make(folder, each=some, regime='frozen'):
        tasks = {name: TASKS[name] for name in names[regime]}
        return lockstep.Lockstep(
            lockstep.Data(labelled, lambda name: other, labelled, labelled),
            tasks,
            dict.fromkeys(tasks, each),
            backbones[regime],
            lockstep.Schedule(warmup=4, self_improving=4, batch_size=2, validations=2),
            seed=0,
            folder=tmp_path / folder,
            warmup=tmp_path / folder / 'warm-up.pth',
        )

    return make


def _without_clock(records):
    return [{key: value for key, value in record.items() if key != 'seconds'} for record in records]


@pytest.fixture
def float32(monkeypatch):
    """Without bfloat16, which is slow where tensors are tiny."""
    monkeypatch.setattr(torch, 'autocast', lambda *args, **kwargs: contextlib.nullcontext())


@pytest.mark.slow  # of a page that stands as it was; half a minute
@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_a_killed_job_goes_on_as_if_nothing_had_happened(job, monkeypatch, float32, regime):
    monkeypatch.setattr(lockstep, 'STATE_INTERVAL', 2)
    some = [
        arms.Arm(name='loop', pool='T600', teacher='WeakTeacher'),
        arms.Arm(name='mirror', pool='T600', teacher='MirroredTeacher'),
    ]
    straight = _without_clock(job('straight', some, regime).run())
    step, calls = lockstep.Lockstep._features, []

    def dies(self, images):
        calls.append(len(calls))
        if len(calls) in (5, 12):
            raise KilledError
        return step(self, images)

    monkeypatch.setattr(lockstep.Lockstep, '_features', dies)
    for _ in range(2):
        with pytest.raises(KilledError):
            job('killed', some, regime).run()
    assert repr(_without_clock(job('killed', some, regime).run())) == repr(straight)  # repr: nan equals nan
    assert len(calls) > 14


def test_the_control_does_not_depend_on_the_other_arms(job, float32):
    # In bfloat16 another batch size of the features changes more than their last bits.
    with_others, alone = job('with').run(), job('alone', []).run()
    for task in ('normal', 'semantic_segmentation'):
        for name in ('real + EMA', 'real only'):
            one, other = (
                next(r for r in records if (r['task'], r['arm']) == (task, name)) for records in (with_others, alone)
            )
            key = next(iter(one['val']))
            assert one['test'][key] == pytest.approx(other['test'][key], rel=1e-3)
            assert one['curve']['val'] == pytest.approx(other['curve']['val'], rel=1e-3)


def test_records_say_what_was_run(job, float32):
    records = job('x').run()
    assert [r['arm'] for r in records[:5]] == ['real + EMA', 'real only', 'loop', 'truth', 'mirror']
    control, real_only, loop, truth, _ = records[:5]
    assert real_only['test'] == control['exploiter']['test'] != control['test']
    assert loop['settings']['creation']['T'] == (600,) and loop['kept_share'] == 1.0 and truth['kept_share'] is None
    assert loop['curve']['step'] == [2, 4] and loop['curve']['val'][-1] == loop['val']['mean']
    assert loop['exploiter']['test'] is None and loop['test']['mean'] > 0


@pytest.fixture
def learners(monkeypatch):
    """(task, arm) → learner of the jobs that are run."""
    found, records = {}, lockstep.records

    def keep(outcome, *rest):
        one = outcome.score.args[0]
        found[one.task.name, outcome.arm.name] = one
        return records(outcome, *rest)

    monkeypatch.setattr(lockstep, 'records', keep)
    return found


def test_a_fixed_teacher_stays_the_warm_up(job, learners, float32):
    made = job('x')
    made.run()
    warm = torch.load(made.warmup_file, weights_only=True)['learners']['normal']['model']
    only, loop = (learners['normal', name].model for name in ('only', 'loop'))
    for key, value in only.label_rule.teacher.state_dict().items():
        assert torch.equal(value, warm[f'exploiter.{key}'])
    key = 'decode_head.head.convs.0.conv.weight'
    for one in (only, loop):  # what is scored is averaged in both
        assert not torch.equal(one.creator.state_dict()[key], warm[f'exploiter.{key}'])


def test_a_trained_unet_belongs_to_its_arm(job, learners, float32):
    some = [arms.Arm(name='loop', pool='T600'), arms.Arm(name='truth', pool='unlabelled', teacher='GivenLabel')]
    made = job('x', some, 'finetune')
    before = made.backbone.diffusion.weights_hash()
    assert all(record['regime'] == 'finetune' for record in made.run())
    trunks = {
        (task, name, who): getattr(one.model, who).backbone.diffusion
        for (task, name), one in learners.items()
        for who in ('exploiter', 'creator')
    }
    assert len(trunks) == 3 * 2
    # Every one has weights of its own by now; those that images are created with are as they were.
    assert len({before, *(trunk.unet.state_dict()['conv_in.weight'].sum().item() for trunk in trunks.values())}) == 7
    assert made.backbone.diffusion.weights_hash() == before
    pretrained = made.backbone.diffusion.vae.state_dict()
    for trunk in trunks.values():
        assert all(torch.equal(value, pretrained[key]) for key, value in trunk.vae.state_dict().items())
    heads, trunk = learners['normal', 'loop'].optimizer.param_groups
    assert trunk['lr'] == pytest.approx(0.1 * heads['lr']) and len(trunk['params']) > len(heads['params'])


def test_a_state_of_other_arms_is_refused(job):
    job('x').run()
    (job('x').folder / 'state.pth').touch()
    with pytest.raises(ValueError, match='state.pth was made with other weights or settings'):
        job('x', []).run()


def test_samples_of_a_source_take_the_levels_in_turn_under_other_things(tiny_diffusion, tmp_path, monkeypatch):
    torch.manual_seed(0)
    texts = [f'a {colour} ball in a room with red walls {i}' for i, colour in enumerate(['red', 'a', 'floor', 'wall'])]
    source = pools.Pool(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8), {}, texts)
    calls, create = [], type(tiny_diffusion).create

    def spy(*args, **kwargs):
        calls.append((kwargs['T'], len(kwargs['captions'])))
        return create(*args, **kwargs)

    monkeypatch.setattr(type(tiny_diffusion), 'create', spy)
    maker = creation.KeptImages(tiny_diffusion, created.CREATION, tmp_path)
    recipe = arms.Creation(T=(100, 200), recombined=True, per_image=2)
    pool = created.created_pool(maker, source, recipe, 0)
    # With T[i % 2] each of the four sources would have one level only; now each has both.
    assert sorted(calls) == [(100, 4), (200, 4)]
    for i, caption in enumerate(pool.captions):
        parts = split_caption(caption)
        assert parts.place == split_caption(texts[i % 4]).place and not texts[i % 4].startswith(parts.things)
    again = created.created_pool(maker, source, recipe, 0)
    assert len(calls) == 2 and torch.equal(again.images, pool.images)
    assert not torch.equal(created.created_pool(maker, source, recipe, 1).images, pool.images)


def test_a_text_adapter_is_refused():
    config = dict(type='DiffusionBackbone', diffusion=TINY_DIFFUSION, classes=['a'], text_adapter=True)
    with pytest.raises(ValueError, match='text adapter'):
        features.make_backbone(config)


class TestQueue:
    def test_jobs_have_names_of_their_own_and_arms(self):
        assert len({job.name for job in jobs.JOBS}) == len(jobs.JOBS)
        for job in jobs.JOBS:
            for task in job.tasks:
                names = [arm.name for arm in job.arms(task)]
                assert len(set(names)) == len(names) and 'real + EMA' not in names
                known = {'labelled', 'unlabelled', *arms.CREATIONS}
                assert {arm.pool for arm in job.arms(task)} <= known

    def test_best_settings_do_not_leak_into_the_paper_arm(self):
        paper = next(arm for arm in arms.main_arms('normal') if arm.name == 'Diff-2-in-1')
        assert paper == arms.Arm(name='Diff-2-in-1', pool='T600') and paper.weight == 1
        best = arms.BEST['semantic_segmentation']
        assert {best, replace(best, name='unlabelled, best', pool='unlabelled')} < set(
            arms.main_arms('semantic_segmentation')
        )

    def test_dry_run_lists_and_marks_what_is_done(self, tmp_path, capsys):
        out = tmp_path / 'runs.jsonl'
        job = next(job for job in jobs.JOBS if job.name == 'main-scenes-60-normal+semantic_segmentation+depth-seed0')
        lines = [dict(zip(KEY, key, strict=True)) for key in scenes._keys(job)]
        out.write_text(''.join(json.dumps(line) + '\n' for line in lines))
        flags = ['--dry-run', '--out', str(out), '--work-dir', str(tmp_path / 'w'), '--blocks', 'main']
        scenes.main([*flags, '--seeds', '0', '1'])
        states = [line[:5].strip() for line in capsys.readouterr().out.splitlines()]
        assert states == ['done', 'to do']
        out.write_text(''.join(json.dumps(line) + '\n' for line in lines[1:]))  # one arm is missing
        scenes.main([*flags, '--seeds', '0'])
        assert capsys.readouterr().out.startswith('to do')

    def test_what_an_orphan_finished_is_collected_once(self, tmp_path, capsys):
        out, job = tmp_path / 'runs.jsonl', jobs.JOBS[0]
        folder = tmp_path / 'w' / job.name
        folder.mkdir(parents=True)
        lines = [json.dumps(dict(zip(KEY, key, strict=True))) for key in sorted(scenes._keys(job))]
        (folder / 'records.jsonl').write_text('\n'.join(lines) + '\n')
        flags = ['--dry-run', '--out', str(out), '--work-dir', str(tmp_path / 'w'), '--blocks', 'knobs', '--seeds', '0']
        for _ in range(2):
            scenes.main(flags)
            assert out.read_text().splitlines() == lines and capsys.readouterr().out.startswith('done')

    def test_a_job_that_is_at_work_is_not_started_again(self, tmp_path):
        with scenes.alone_in(tmp_path), pytest.raises(SystemExit, match='another process'), scenes.alone_in(tmp_path):
            pass
        with scenes.alone_in(tmp_path):
            pass

    def test_missing_data_is_said_before_the_work(self, tmp_path):
        flags = ['--data-root', str(tmp_path), '--out', str(tmp_path / 'o'), '--work-dir', str(tmp_path / 'w')]
        with pytest.raises(SystemExit, match='meta.json is not there'):
            scenes.main([*flags, '--sets', 'scenes'])
