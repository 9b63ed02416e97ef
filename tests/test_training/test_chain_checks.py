"""The chain looks at its data before it trains."""

import pytest
from tiny_chain import chain_config

from mmdiff2in1.training.chain import train


def test_the_chain_checks_before_it_trains(chain_folder, tmp_path):
    cfg = chain_config(chain_folder)
    cfg.model.segmentor.decode_head.head.num_classes = 2
    with pytest.raises(ValueError, match='num_classes: found 2; expected 11, the classes of ScenesDataset'):
        train(cfg, tmp_path)
    assert not list(tmp_path.iterdir())
