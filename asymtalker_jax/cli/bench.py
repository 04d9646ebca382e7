"""Times the networks of a bundle on this machine.

  asymtalker bench --bundle=tiny --json=bench.json
  asymtalker bench --bundle=random:lite --parts=dit,chunk
  JAX_PLATFORMS=cpu asymtalker bench --bundle=random:pro --size=128 \
      --parts=dit,vae_decode,audio --against=torch

Per part: median time, operations per second of its matrix products and
convolutions, and their share of the device's peak (bfloat16 from the data
sheet; on other devices a large float32 matrix product measured here). `chunk`
is everything from samples to frames, streaming: audio encoder, all denoising
steps, decoder, and encoder of the continuity where the bundle carries frames.
--against=torch runs the same networks in diffusers and transformers in turns; a
ratio below 1 is faster.
"""

from collections.abc import Sequence
import json

from absl import flags

from asymtalker_jax import files

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb."""
  flags.DEFINE_string('bundle', 'tiny', 'a bundled model by name, the folder of'
                      ' a bundle, or random:VARIANT', flag_values=values)
  flags.DEFINE_list('parts', ['dit', 'vae_encode', 'vae_decode', 'audio',
                              'chunk'], 'what to time', flag_values=values)
  flags.DEFINE_integer('size', None, "pixels per side, by default the bundle's"
                       ' own', lower_bound=1, flag_values=values)
  flags.DEFINE_enum('against', None, ['torch'], 'reference packages to compare'
                    ' with', flag_values=values)
  flags.DEFINE_string('json', None, 'file for the figures', flag_values=values)


def main(argv: Sequence[str]) -> None:
  """Runs the verb; raises ValueError or OSError for bad flags or files."""
  if argv[1:]:
    raise ValueError(f'unexpected word {argv[1]!r}; expected flags only')
  if FLAGS.json:
    files.check_place(FLAGS.json, '--json=')
  # pylint: disable=import-outside-toplevel
  from asymtalker_jax import bundle as bundle_lib
  from asymtalker_jax.evals import bench

  bundle = bundle_lib.load(FLAGS.bundle)
  beside = None
  if FLAGS.against:  # First: it may find that it cannot be done here.
    from asymtalker_jax.parity import beside_torch

    networks = bench.at_size(bundle.networks, FLAGS.size)
    beside = beside_torch.compare(networks, FLAGS.parts)
  found = bench.measure(bundle, FLAGS.parts, FLAGS.size)
  print(_table(found))
  if beside:
    found['torch'] = beside
    print(_ratios(beside))
  if FLAGS.json:
    files.write(FLAGS.json, json.dumps(found, indent=1).encode() + b'\n')


def _table(found: dict) -> str:
  peak = found['peak']
  lines = [
      f'{found["bundle"]}, {found["width"]}x{found["height"]}, on'
      f' {found["device"]}; peak {peak["flops"] / 1e12:.3g} TFLOP/s'
      f' ({peak["source"]})',
      f'{"part":10}  {"median":>10}  {"GFLOP":>9}  {"TFLOP/s":>8}  of peak',
  ]
  for name, row in found['parts'].items():
    rate = row.get('frames_per_s')
    lines.append(
        f'{name:10}  {1e3 * row["median_s"]:7.1f} ms'
        f'  {row["flops"] / 1e9:9.2f}  {row["flops_per_s"] / 1e12:8.3f}'
        f'  {row["share_of_peak"]:7.1%}'
        + (f'  {rate:.1f} frames/s' if rate else '')
    )
  return '\n'.join(lines)


def _ratios(found: dict) -> str:
  lines = [f'{"part":10}  {"ours":>10}  {"torch":>10}  ratio']
  for name, row in found.items():
    lines.append(
        f'{name:10}  not compared: {row["reason"]}' if 'reason' in row else
        f'{name:10}  {1e3 * row["median_s"]:7.1f} ms'
        f'  {1e3 * row["torch_median_s"]:7.1f} ms  {row["ratio"]:.2f}'
    )
  return '\n'.join(lines)
