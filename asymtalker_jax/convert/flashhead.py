"""Layout of the SoulX-FlashHead DiT (Model_Pro, Model_Lite)."""

from typing import Any

import numpy as np

from asymtalker_jax import tensor_file
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
from asymtalker_jax.models import dit

# In the checkpoints, but its forward pass never reads them: what is left of
# text-to-video, and an audio embedding that another module replaced.
UNUSED = (r'text_embedding\..*', r'audio_emb\..*')
_TEXT, _AUDIO = 4096, 768  # Channels that enter the two.
# Keys of config.json that tell networks of different sizes apart.
SIZES = (
    'dim', 'in_dim', 'ffn_dim', 'out_dim', 'freq_dim', 'num_heads',
    'num_layers', 'patch_size', 'vae_stride',
)  # pyformat: disable


def table(config: dit.DiTConfig) -> rules.Table:
  """Table for `WanModelAudioProject` without image input."""
  audio = 'audio_projection'
  return rules.Table(
      rules=(
          *wan_dit.patch_embedding(config.patch),
          *wan_dit.original_blocks(),
          *wan_dit.linear('audio_proj.proj1', f'{audio}/first'),
          *wan_dit.linear('audio_proj.proj1_vf', f'{audio}/later'),
          *wan_dit.linear('audio_proj.proj2', f'{audio}/hidden'),
          *wan_dit.linear('audio_proj.proj3', f'{audio}/tokens'),
          rules.Rule('audio_proj.norm.weight', f'{audio}/norm/scale'),
          rules.Rule('audio_proj.norm.bias', f'{audio}/norm/bias'),
      ),
      ignore=UNUSED,
  )


def published_config(config: dit.DiTConfig, spatial_stride: int) -> dict:
  """config.json of a network as the original code reads it.

  Args:
    config: of the network.
    spatial_stride: of its VAE, pixels per latent cell.
  """
  return {
      '_class_name': 'WanModelAudioProject',
      '_diffusers_version': '0.35.1',
      'dim': config.width,
      'eps': config.eps,
      'ffn_dim': config.ffn,
      'freq_dim': config.frequency_dim,
      'has_image_input': False,
      'in_dim': 2 * config.latent_channels,
      'num_heads': config.heads,
      'num_layers': config.depth,
      'out_dim': config.latent_channels,
      'patch_size': list(config.patch),
      'text_dim': _TEXT,
      'vae_stride': [config.temporal_stride, *2 * [spatial_stride]],
  }


def unused_zeros(config: dit.DiTConfig, dtype: Any) -> dict[str, Any]:
  """UNUSED tensors for a network that never had them; the original code wants
  them in the file."""
  width, shapes = config.width, {}
  for name, (inputs, outputs) in {
      'text_embedding.0': (_TEXT, width),
      'text_embedding.2': (width, width),
      'audio_emb.proj.1': (_AUDIO, _AUDIO),
      'audio_emb.proj.3': (_AUDIO, width),
  }.items():
    shapes |= {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}
  for name, size in {'audio_emb.proj.0': _AUDIO, 'audio_emb.proj.4': width
                    }.items():
    shapes |= {f'{name}.weight': (size,), f'{name}.bias': (size,)}
  return {
      key: tensor_file.Tensor(
          shape, np.dtype(dtype), lambda s=shape: np.zeros(s, dtype)
      )
      for key, shape in shapes.items()
  }
