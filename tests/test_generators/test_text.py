"""Words, token ids, and the state at a class name's last word."""

import pytest
import torch

from mmdiff2in1.generators.tokenizer import caption_tokenizer, words_of

# Ids of the fixture: begin 0, end 1, unknown 2, then its words: a 3, and 4, ball 5, floor 6, red 7, table 8, wall 9.


def test_words_are_lower_case_sorted_and_without_punctuation():
    captions = ['A red ball, and a TABLE.', "it's a two-door cabinet (2)", 'a ball']
    assert words_of(captions) == ['2', 'a', 'and', 'ball', 'cabinet', "it's", 'red', 'table', 'two-door']
    assert words_of([]) == [] and words_of(['', ' ,']) == []


@pytest.mark.parametrize(
    ('caption', 'ids'),
    [
        ('a red ball', [0, 3, 7, 5, 1, 1, 1, 1]),
        ('A  RED, ball!', [0, 3, 7, 5, 1, 1, 1, 1]),
        ('', [0, 1, 1, 1, 1, 1, 1, 1]),
        ('a blue ball', [0, 3, 2, 5, 1, 1, 1, 1]),
        ('a red ball and a table and a wall', [0, 3, 7, 5, 4, 3, 8, 1]),
    ],
)
def test_token_ids_golden(tiny_diffusion, caption, ids):
    assert tiny_diffusion.text.token_ids([caption, 'a wall']).tolist() == [ids, [0, 3, 9, 1, 1, 1, 1, 1]]


def test_every_word_of_the_captions_has_its_own_id():
    captions = ["a two-door cabinet, it's red", 'a wall']
    words = words_of(captions)
    tokenizer = caption_tokenizer(words, 12)
    assert [tokenizer(word).input_ids[1:-1] for word in words] == [[3 + i] for i in range(len(words))]
    assert len(tokenizer) == 3 + len(words) and tokenizer.model_max_length == 12
    assert tokenizer.decode(tokenizer('Wall, red').input_ids) == '<|begin|> wall red <|end|>'


def test_encode_text_is_the_encoders_last_state(tiny_diffusion):
    d = tiny_diffusion
    ids = torch.tensor([[0, 3, 7, 5, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        expected = d.text.encoder(input_ids=ids).last_hidden_state
        assert torch.equal(d.encode_text(['a red ball', '']), expected)
    assert expected.shape == (2, 8, 16)


def test_class_tokens_are_the_states_at_the_last_word(tiny_diffusion):
    d = tiny_diffusion
    names = ['wall', 'red ball', 'Table', 'red ball and a table and a wall and a floor']
    tokens = d.text.class_tokens(names)
    assert tokens.shape == (4, 16) and not tokens.requires_grad
    # One by one, unpadded: a causal encoder does not see what follows the word. The last name is cut off at 8 tokens.
    by_hand = [[0, 3, 9], [0, 3, 7, 5], [0, 3, 8], [0, 3, 7, 5, 4, 3, 8]]
    for token, ids in zip(tokens, by_hand, strict=True):
        with torch.no_grad():
            state = d.text.encoder(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        torch.testing.assert_close(token, state, atol=1e-5, rtol=1e-5)
    alone = torch.cat([d.text.class_tokens([name]) for name in names])
    torch.testing.assert_close(tokens, alone, atol=1e-6, rtol=1e-6)


def test_another_template(tiny_diffusion):
    d = tiny_diffusion
    with torch.no_grad():
        state = d.text.encoder(input_ids=torch.tensor([[0, 3, 7, 9]])).last_hidden_state[0, -1]
    torch.testing.assert_close(d.text.class_tokens(['wall'], 'a red {}')[0], state, atol=1e-5, rtol=1e-5)


def test_class_names_that_say_nothing(tiny_diffusion):
    text = tiny_diffusion.text
    with pytest.raises(ValueError, match=r'class names \[1, 3\] are empty'):
        text.class_tokens(['wall', '', 'floor', '  '])
    with pytest.warns(UserWarning, match=r"does not know all words of \['sky', 'blue wall', '墙'\]; it cannot tell"):
        tokens = text.class_tokens(['wall', 'sky', 'blue wall', '墙'])
    assert tokens.isfinite().all()
