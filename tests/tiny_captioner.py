"""Tiny random captioning models, saved as folders: BLIP-2 with OPT or T5, BLIP, GIT. Each knows thirty words."""

from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipProcessor,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    OPTConfig,
    PreTrainedModel,
    T5Config,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mmdiff2in1.generators import tokenizer as tokens
from mmdiff2in1.generators.tokenizer import caption_tokenizer

WORDS = (
    'a and bed blue chair cup dark floor in is it lamp large light near of on photo picture red '
    'room small table the this wall white window with wooden'
).split()
SIDE, WIDTH, QUERIES = 8, 16, 4
BEGIN, END = 0, 1
SHAPE = dict(hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1, num_attention_heads=2)
VISION = SHAPE | dict(image_size=SIDE, patch_size=4)
ENDS = dict(bos_token_id=BEGIN, eos_token_id=END, pad_token_id=END)


def save_captioner(folder: Path, kind: str = 'blip-2') -> PreTrainedModel:
    """Writes model and processor of `kind` ('blip-2', 'blip-2-t5', 'blip', 'git') and returns the model.

    Initial weights as they are say one word for ever; enlarged, they say other words for other images.
    """
    torch.manual_seed(0)
    tokenizer = caption_tokenizer(WORDS, 32)
    if kind == 'blip-2':  # as OPT's: a text is opened, not closed
        opening = TemplateProcessing(single=f'{tokens.BEGIN} $A', special_tokens=[(tokens.BEGIN, BEGIN)])
        tokenizer.backend_tokenizer.post_processor = opening
    images = BlipImageProcessorPil(size=dict(height=SIDE, width=SIDE))
    if kind.startswith('blip-2'):
        processor = Blip2Processor(images, tokenizer, num_query_tokens=QUERIES)
        size = dict(vocab_size=len(tokenizer), **ENDS)
        text = (
            T5Config(d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=2, decoder_start_token_id=END, **size)
            if kind == 'blip-2-t5'
            else OPTConfig(
                hidden_size=WIDTH,
                word_embed_proj_dim=WIDTH,
                ffn_dim=WIDTH,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=64,
                **size,
            )  # fmt: skip
        )
        qformer = SHAPE | dict(vocab_size=len(tokenizer), encoder_hidden_size=WIDTH, cross_attention_frequency=1)
        model = Blip2ForConditionalGeneration(
            Blip2Config(
                vision_config=VISION,
                qformer_config=qformer,
                text_config=text.to_dict(),
                num_query_tokens=QUERIES,
                image_token_index=len(tokenizer) - 1,
            )
        )
    elif kind == 'blip':
        processor = BlipProcessor(images, tokenizer)
        text = SHAPE | ENDS | dict(vocab_size=len(tokenizer), sep_token_id=END, encoder_hidden_size=WIDTH)
        model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=VISION))
    else:
        square = dict(height=SIDE, width=SIDE)
        processor = GitProcessor(CLIPImageProcessorPil(size=dict(shortest_edge=SIDE), crop_size=square), tokenizer)
        model = GitForCausalLM(GitConfig(vision_config=VISION, vocab_size=len(tokenizer), **SHAPE, **ENDS))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model
