"""Pipelines of random weights, made in code: as small as the real classes allow, and saved like downloaded ones."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

# The roles' words as the chat template writes them; the second one only joins the words of a message.
_TEMPLATE = "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}"
_WORDS = ("[PAD]", "[UNK]", "</s>", "user", "a", "cat", "in", "storm")


def flux(folder: Path) -> Path:
    """Save a tiny `Flux2KleinPipeline`; it makes and edits pictures."""
    torch, diffusers, transformers = map(import_module, ("torch", "diffusers", "transformers"))
    torch.manual_seed(0)
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * 16,
        timestep_guidance_channels=256,
        axes_dims_rope=[4] * 4,
        guidance_embeds=False,
    )
    config = transformers.Qwen3Config(
        vocab_size=len(_WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=27,  # the pipeline reads what comes out of the 9th, 18th and 27th
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=2,
    )
    vae = diffusers.AutoencoderKLFlux2(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4,) * 4,
        layers_per_block=1,
        latent_channels=1,
        norm_num_groups=1,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=transformers.Qwen3ForCausalLM(config).eval(),
        tokenizer=_tokenizer(transformers),
        transformer=transformer,
        vae=vae,
    ).save_pretrained(folder)
    return folder


def wan(folder: Path) -> Path:
    """Save a tiny `WanPipeline`; it makes clips."""
    torch, diffusers, transformers = map(import_module, ("torch", "diffusers", "transformers"))
    torch.manual_seed(0)
    transformer = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=1024,
    )
    config = transformers.UMT5Config(
        vocab_size=len(_WORDS), d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4, pad_token_id=0, eos_token_id=2
    )
    vae = diffusers.AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    diffusers.WanPipeline(
        tokenizer=_tokenizer(transformers),
        text_encoder=transformers.UMT5EncoderModel(config).eval(),
        vae=vae,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


def _tokenizer(transformers: Any) -> Any:
    tokenizers = import_module("tokenizers")
    words = {word: index for index, word in enumerate(_WORDS)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="[PAD]", unk_token="[UNK]", eos_token="</s>"
    )
    made.chat_template = _TEMPLATE
    return made
