"""Weights that are no numbers are found, wherever they lie; large ones are no fault."""

import math

import pytest
import torch

from mmdiff2in1.generators.finite import all_finite, check_finite

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2]


@pytest.mark.parametrize('dtype', TYPES)
@pytest.mark.parametrize('values', [[math.nan], [math.inf], [-math.inf], [math.inf, -math.inf], [math.nan, math.inf]])
def test_one_value_among_many(dtype, values):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 1000, generator=generator).to(dtype)
    assert all_finite(weights)
    places = torch.randperm(3000, generator=generator)[: len(values)]
    weights.view(-1)[places] = torch.tensor(values).to(dtype)
    assert not all_finite(weights)
    with pytest.raises(ValueError, match='file: b holds values that are not finite'):
        check_finite({'a': torch.ones(2), 'b': weights, 'n': torch.tensor(3)}, 'file')


@pytest.mark.parametrize('dtype', TYPES)
def test_values_whose_sum_is_too_large(dtype):
    largest = torch.finfo(dtype).max
    assert all_finite(torch.full((5,), largest, dtype=dtype)) and all_finite(torch.full((5,), -largest, dtype=dtype))


def test_no_values():
    assert all_finite(torch.empty(0)) and all_finite(torch.empty(3, 0, dtype=torch.float16))
