"""Created images that teach nothing for long are said once, by task."""

import logging

from mmengine.logging import MessageHub

from mmdiff2in1.engine.kept_share_watch import WINDOW, KeptShareWatch

NAME = 'kept_share/semantic_segmentation'


def run(name, shares, caplog):
    hub, watch, logger = MessageHub(name), KeptShareWatch(), logging.getLogger(name)
    with caplog.at_level(logging.WARNING):
        for share in shares:
            hub.update_scalar(f'train/{NAME}', share)
            watch.look(hub, logger, {NAME: share, 'loss': 1.0})
    return [record.getMessage() for record in caplog.records]


def test_next_to_nothing_for_long_is_said_once(caplog):
    said = run('little', [0.01] * (3 * WINDOW), caplog)
    assert len(said) == 1
    assert said[0].startswith(f'{NAME} is 0.0100 on average over {WINDOW} iterations')
    assert 'Lower min_confidence' in said[0] and 'warm-up' in said[0]


def test_enough_or_not_long_enough_is_not(caplog):
    assert run('enough', [0.3] * (2 * WINDOW), caplog) == []
    assert run('short', [0.0] * (WINDOW - 1), caplog) == []
    assert run('late', [0.0] * (WINDOW // 2) + [0.5] * WINDOW, caplog) == []
