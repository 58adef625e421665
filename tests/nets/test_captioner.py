"""Captions: a tiny BLIP and BLIP-2 from configurations, saved and loaded through the real path."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from depthlight.core.errors import CheckpointError  # noqa: E402
from depthlight.nets.prior import captioner  # noqa: E402
from depthlight.nets.prior.captioner import caption  # noqa: E402

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "red", "house", "tree"]
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    """A BLIP that can say four words, with random weights."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("blip")
    (root / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizer(
        str(root / "vocab.txt"), bos_token="[DEC]", additional_special_tokens=["[ENC]"]
    )
    images = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.BlipProcessor(images, tokenizer).save_pretrained(root)
    text = transformers.BlipTextConfig(
        **SMALL, vocab_size=len(WORDS), encoder_hidden_size=16, max_position_embeddings=64, bos_token_id=5,
        sep_token_id=3, eos_token_id=3, pad_token_id=0, projection_dim=8,
    )  # fmt: skip
    vision = transformers.BlipVisionConfig(**SMALL, image_size=32, patch_size=16, projection_dim=8)
    config = transformers.BlipConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8, image_text_hidden_size=8
    )
    model = transformers.BlipForConditionalGeneration(config)
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[:7] = -9.0  # only real words, and no end
    model.save_pretrained(root)
    return root


@pytest.fixture(scope="module")
def blip2(tmp_path_factory):
    """A BLIP-2 (OPT) with random weights but for its last layer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("blip2")
    words = ["<pad>", "<s>", "</s>", "<unk>", "a", "red", "house", "tree"]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    images = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.Blip2Processor(images, tokenizer, num_query_tokens=4).save_pretrained(root)
    text = {
        "model_type": "opt", "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": 9, "max_position_embeddings": 64, "word_embed_proj_dim": 16, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    config = transformers.Blip2Config(
        vision_config={**SMALL, "image_size": 32, "patch_size": 16},
        qformer_config={**SMALL, "encoder_hidden_size": 16, "vocab_size": 8, "cross_attention_frequency": 1},
        text_config=text,
        num_query_tokens=4,
        image_token_index=8,
    )
    model = transformers.Blip2ForConditionalGeneration(config)
    with torch.no_grad():  # the language model always wants to say "red"
        model.language_model.model.decoder.final_layer_norm.weight.zero_()
        model.language_model.model.decoder.final_layer_norm.bias.fill_(1.0)
        model.language_model.get_input_embeddings().weight[words.index("red")] = 3.0
    model.save_pretrained(root)
    return root


def photo(seed: int = 0):
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)


def test_a_caption_is_made_of_the_models_words_and_repeats(blip):
    torch.manual_seed(1)
    first = caption(photo(), blip)
    torch.manual_seed(2)
    assert caption(photo(), blip) == first
    assert set(first.split()) <= set(WORDS[7:])
    assert first.split()


def test_blip2_captions_too(blip2):
    assert caption(photo(), blip2) == " ".join(["red"] * captioner.MAX_TOKENS)


def test_the_caption_is_that_of_transformers(blip):
    processor = transformers.BlipProcessor.from_pretrained(blip)
    model = transformers.BlipForConditionalGeneration.from_pretrained(blip).eval()
    tokens = model.generate(
        **processor(images=photo(), return_tensors="pt"), max_new_tokens=captioner.MAX_TOKENS, do_sample=False
    )
    assert caption(photo(), blip) == processor.decode(tokens[0], skip_special_tokens=True).strip()


def test_the_model_is_freed(blip, monkeypatch):
    seen = []
    load = captioner.load_transformers

    def watched(*args, **kwargs):
        model = load(*args, **kwargs)
        seen.append(weakref.ref(model))
        return model

    monkeypatch.setattr(captioner, "load_transformers", watched)
    caption(photo(), blip)
    gc.collect()
    assert len(seen) == 1
    assert seen[0]() is None


def test_a_model_that_says_nothing_is_an_error(blip, monkeypatch):
    monkeypatch.setattr(captioner, "MAX_TOKENS", 1)
    load = captioner.load_transformers

    def mute(*args, **kwargs):
        model = load(*args, **kwargs)
        with torch.no_grad():
            model.text_decoder.cls.predictions.bias[3] = 99.0
        return model

    monkeypatch.setattr(captioner, "load_transformers", mute)
    with pytest.raises(CheckpointError, match="says nothing about this photo"):
        caption(photo(), blip)


def test_models_that_want_a_question_are_refused(tmp_path):
    transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=8)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"is a bert model; expected a captioning model of type blip, blip-2"):
        caption(photo(), tmp_path)
