"""Attributes that mmseg's tools read from a segmentor, answered by the model under evaluation (θ_C or θ_E)."""

from typing import Any


def _of_the_model_under_evaluation(name: str) -> property:
    def read(self: Any) -> Any:
        return getattr(self.under_evaluation, name)

    return property(read, doc=f'`{name}` of the model under evaluation.')


class ReadsLikeItsSegmentor:
    """Parts, class counts and inference functions are those of `self.under_evaluation`.

    Enough for `SegTTAModel`, `init_model` and `inference_model`, the visualization hook and the complexity tools.
    A part the segmentor has not (a `neck`, an `auxiliary_head`) is absent here too: `hasattr` is False.
    """

    backbone = _of_the_model_under_evaluation('backbone')
    neck = _of_the_model_under_evaluation('neck')
    decode_head = _of_the_model_under_evaluation('decode_head')
    auxiliary_head = _of_the_model_under_evaluation('auxiliary_head')
    num_classes = _of_the_model_under_evaluation('num_classes')
    out_channels = _of_the_model_under_evaluation('out_channels')
    align_corners = _of_the_model_under_evaluation('align_corners')
    train_cfg = _of_the_model_under_evaluation('train_cfg')
    test_cfg = _of_the_model_under_evaluation('test_cfg')
    extract_feat = _of_the_model_under_evaluation('extract_feat')
    encode_decode = _of_the_model_under_evaluation('encode_decode')
    inference = _of_the_model_under_evaluation('inference')
    whole_inference = _of_the_model_under_evaluation('whole_inference')
    slide_inference = _of_the_model_under_evaluation('slide_inference')
    postprocess_result = _of_the_model_under_evaluation('postprocess_result')
    predict = _of_the_model_under_evaluation('predict')
    _forward = _of_the_model_under_evaluation('_forward')
