"""FlashHead releases of a few hundred kilobytes, and the command over them."""

import json
import pathlib

import ml_dtypes
import numpy as np

from asymtalker_jax import tensor_file
from asymtalker_jax.cli import main as cli
from asymtalker_jax.convert import export
from tests import golden_file

BF16, F16, F32 = np.dtype(ml_dtypes.bfloat16), np.float16, np.float32
UNUSED = {
    'text_embedding.0.bias': np.arange(3, dtype=BF16),
    'audio_emb.proj.0.weight': np.arange(4, dtype=F32),
}


def cast(tensors, dtype, **others):
  """Tensors in `dtype`; those whose key ends with a name in another."""
  of = lambda key: next(
      (d for k, d in others.items() if key.endswith(k)), dtype
  )
  return {k: np.ascontiguousarray(v, of(k)) for k, v in tensors.items()}


def _write(folder: pathlib.Path, tensors, published, name=export.WEIGHTS):
  folder.mkdir(parents=True)
  tensor_file.write(folder / name, tensors)
  (folder / 'config.json').write_text(json.dumps(published))


def _common(path, kind, **dtypes):
  golden = golden_file.load(f'chunk_loop_{kind}')
  config, model = golden.config, f'Model_{kind.title()}'
  dit = cast(golden.weights('dit.'), **dtypes) | UNUSED
  _write(path / model, dit, config['dit'][0] | {'kept': 'as it is'})
  speech = golden.weights('wav2vec.') | {'lm_head.bias': np.zeros(3, F32)}
  folder = path / 'wav2vec2-base-960h'
  _write(folder, cast(speech, F32), config['w2v'], 'model.safetensors')
  (folder / 'preprocessor_config.json').write_text('{"sampling_rate": 16000}')
  return golden


def lite(path: pathlib.Path, **dtypes) -> pathlib.Path:
  """Model_Lite in `dtypes` (see `cast`), its VAE in float16."""
  golden = _common(path, 'lite', **dtypes)
  vae = cast(golden.weights('vae.'), F16)
  vae['per_channel_statistics.channel'] = np.arange(3, dtype=np.int64)
  _write(path / 'VAE_LTX', vae, golden.config['vae'])
  return path


def pro(path: pathlib.Path, torch) -> pathlib.Path:
  """Model_Pro in float32, its VAE as a .pth in bfloat16."""
  golden = _common(path, 'pro', dtype=F32)
  (path / 'VAE_Wan').mkdir()
  of = lambda v: torch.from_numpy(np.ascontiguousarray(v)).bfloat16()
  state = {key: of(v) for key, v in golden.weights('vae.').items()}
  torch.save(state, path / 'VAE_Wan' / 'Wan2.1_VAE.pth')
  sizes = path / 'VAE_Wan' / 'vae_config.json'
  sizes.write_text(json.dumps(golden.config['vae']))
  return path


def run(verb: str, *words) -> int:
  """Exit code of a verb."""
  return cli.main([verb, *map(str, words)])


def convert(source: pathlib.Path, kind: str = 'flashhead-lite'):
  """Bundle of a release, beside it."""
  out = source.parent / 'bundle'
  words = f'--kind={kind}', f'--source={source}', f'--out={out}'
  assert run('convert', *words) == 0
  return out
