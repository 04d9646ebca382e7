"""The Wan 2.1 DiT against diffusers, side by side."""

import jax
import numpy as np
import pytest

from asymtalker_jax.convert import configs
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
from asymtalker_jax.models import dit
from tests.parity_live import reference

diffusers = reference.package('diffusers')


@pytest.mark.parametrize('heads, size, layers, shape', [
    (2, 12, 1, (1, 3, 4, 6)),
    (3, 16, 2, (2, 2, 6, 4)),
    (2, 64, 3, (2, 5, 8, 10)),
])
def test_equals_diffusers(heads, size, layers, shape):
  batch, frames, height, width = shape
  model = reference.randomise(diffusers.WanTransformer3DModel(
      num_attention_heads=heads, attention_head_dim=size, in_channels=16,
      out_channels=16, text_dim=24, freq_dim=32, ffn_dim=72, num_layers=layers,
  ))
  config = configs.wan_dit_diffusers(model.config)
  params = rules.convert(
      reference.weights(model), wan_dit.diffusers_table(config),
      wan_dit.targets(config),
  )
  x = reference.normal(batch, 16, frames, height, width)
  text = reference.normal(batch, 7, 24, seed=2)
  timestep = np.float32([937.5, 40.0])[:batch]
  theirs = reference.run(model, lambda m, cast: m(
      hidden_states=cast(x), timestep=cast(timestep),
      encoder_hidden_states=cast(text), return_dict=False,
  )[0])
  ours = jax.jit(dit.DiT(config).apply)(
      {'params': params}, np.moveaxis(x, 1, -1), timestep, text=text
  )
  reference.check(np.moveaxis(ours, -1, 1), theirs)
