"""Layout of the SoulX-FlashHead DiT (Model_Pro, Model_Lite)."""

from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
from asymtalker_jax.models import dit

# In the checkpoints, but its forward pass never reads them: what is left of
# text-to-video, and an audio embedding that another module replaced.
UNUSED = (r'text_embedding\..*', r'audio_emb\..*')


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
