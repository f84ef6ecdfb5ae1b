"""Tiny random checkpoints in the Hugging Face layout, made by the tests themselves."""

from pathlib import Path

import torch
import transformers as hf

CONV = {"conv_dim": (32,) * 7}
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

# name: (configuration, feature extractor)
UPSTREAMS = {
    "wav2vec2-base": lambda: (hf.Wav2Vec2Config(**CONV, **SMALL), hf.Wav2Vec2FeatureExtractor(do_normalize=True)),
    "wav2vec2-large": lambda: (hf.Wav2Vec2Config(**CONV, **SMALL, **LAYER_NORM), hf.Wav2Vec2FeatureExtractor(do_normalize=True)),
    "hubert-base": lambda: (hf.HubertConfig(**CONV, **SMALL), hf.Wav2Vec2FeatureExtractor(do_normalize=False)),
    "hubert-large": lambda: (hf.HubertConfig(**CONV, **SMALL, **LAYER_NORM), hf.Wav2Vec2FeatureExtractor(do_normalize=True)),
    "wavlm-base": lambda: (hf.WavLMConfig(**CONV, **SMALL), hf.Wav2Vec2FeatureExtractor(do_normalize=False)),
    "wavlm-large": lambda: (hf.WavLMConfig(**CONV, **SMALL, **LAYER_NORM), hf.Wav2Vec2FeatureExtractor(do_normalize=True)),
    "data2vec-audio": lambda: (
        hf.Data2VecAudioConfig(**CONV, **{**SMALL, "num_conv_pos_embeddings": 3}, conv_pos_kernel_size=5),
        hf.Wav2Vec2FeatureExtractor(do_normalize=True),
    ),
    "wav2vec2-bert": lambda: (
        hf.Wav2Vec2BertConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            position_embeddings_type="relative_key",
        ),
        hf.SeamlessM4TFeatureExtractor(),
    ),
}


def make_upstream(name: str, directory: Path, seed: int = 0) -> Path:
    """Save the tiny checkpoint `name` of `UPSTREAMS` with random weights under `directory`."""
    torch.manual_seed(seed)
    config, extractor = UPSTREAMS[name]()
    model = hf.AutoModel.from_config(config)
    model.save_pretrained(directory)
    extractor.save_pretrained(directory)
    return directory
