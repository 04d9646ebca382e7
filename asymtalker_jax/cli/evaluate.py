r"""Scores a bundle on unseen identities, beside ground truth and the VAE.

  asymtalker evaluate --bundle=tiny --data=data/puppets --clips=16 \
      --out=out/evaluation
  asymtalker evaluate --bundle=tiny --data=data/puppets --clips=0 \
      --seconds=600 --out=out/drift

Writes metrics.json, table.md, curves.png and frames.png (generated frames below
ground truth); for a long video drift.png and drift_frames.png.
"""

from collections.abc import Sequence
import pathlib

from absl import flags

FLAGS = flags.FLAGS
SHEETS = 4  # clips on the contact sheet
_RECORDED = ('bundle', 'data', 'split', 'clips', 'seconds', 'role', 'steps',
             'guidance', 'seed', 'carry', 'color_correction')


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  for name, default, text in (
      ('bundle', 'tiny', 'name of a bundled model, or a bundle folder'),
      ('data', None, 'folder of `asymtalker data build`; required'),
      ('split', 'test', 'split of the data'),
      ('out', None, 'folder to write to; required'),
      ('reader', None, 'folder of another puppet reader than the bundled')):
    flags.DEFINE_string(name, default, text, flag_values=values)
  flags.DEFINE_enum('role', 'student', ['student', 'teacher'], 'which weights',
                    flag_values=values)
  flags.DEFINE_enum('carry', 'reencode', ['reencode', 'latent'],
                    'continuity between chunks', flag_values=values)
  for name, default, text in (
      ('clips', 16, 'clips to evaluate; 0 for the long video only'),
      ('steps', None, 'sampler steps, by default those of the bundle'),
      ('seed', 0, 'of the noise')):
    flags.DEFINE_integer(name, default, text, lower_bound=0,
                         flag_values=values)
  for name, default, text in (
      ('seconds', 0.0, 'also one long video of this length, for drift'),
      ('guidance', None, 'of a teacher, by default 3'),
      ('color_correction', 0.0, 'strength, 0 to 1')):
    flags.DEFINE_float(name, default, text, lower_bound=0.0,
                       flag_values=values)
  flags.mark_flags_as_required(['data', 'out'], values)


def _score_clips(model, bundle, clips, reader, out: pathlib.Path) -> dict:
  """Ground truth, VAE and model on every clip; writes table and pictures."""
  from asymtalker_jax.evals import protocol  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.evals import reconstruction  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.evals import report  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.evals import speed  # pylint: disable=g-import-not-at-top

  vae = bundle.params['vae']
  systems = {
      'vae': reconstruction.reconstruct(
          lambda video: bundle.networks.encode_video(vae, video),
          lambda latents: bundle.networks.decode_video(vae, latents),
          bundle.networks.chunk,
      ),
      FLAGS.role: protocol.from_generator(model),
  }
  results, scores = protocol.run(systems, clips, reader)
  results[FLAGS.role]['figures'] |= speed.summarise(model.reports)
  rows = [
      scores[name][i].thumbnails
      for i in range(min(SHEETS, len(clips)))
      for name in ('gt', FLAGS.role)
  ]
  report.contact_sheet(out / 'frames.png', rows)
  report.plot_lines(out / 'curves.png', report.clip_panels(results))
  return results


def _score_long(model, clips, reader, out: pathlib.Path) -> dict:
  """One long video; writes its plot and frames."""
  from asymtalker_jax.evals import long_run  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.evals import report  # pylint: disable=g-import-not-at-top

  result, thumbnails = long_run.measure(model, clips, FLAGS.seconds, reader)
  chunks_per_minute = len(model.memory_mb) * 60 / FLAGS.seconds
  result['figures'] |= {
      'memory_growth': model.memory_growth(chunks_per_minute),
      'frames_per_s': model.reports[-1]['frames_per_s'],
  }
  report.plot_lines(out / 'drift.png', report.long_panels(result['curves']), 3)
  report.contact_sheet(out / 'drift_frames.png', [thumbnails], 20)
  return result


def main(argv: Sequence[str]) -> None:
  """Runs the verb."""
  from asymtalker_jax.evals import generation  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.evals import reader as reader_lib  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.evals import report  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.inputs import source  # pylint: disable=g-import-not-at-top

  del argv
  if not FLAGS.clips and not FLAGS.seconds:
    raise ValueError('--clips=0 and --seconds=0: expected one above 0')
  data = source.open_clips(FLAGS.data, FLAGS.split)
  if FLAGS.clips > len(data):
    raise ValueError(f'--clips={FLAGS.clips}: {data!r} holds {len(data)}')
  out = pathlib.Path(FLAGS.out)
  out.mkdir(parents=True, exist_ok=True)
  reader = reader_lib.load(FLAGS.reader or reader_lib.BUNDLED)
  bundle = generation.load_bundle(FLAGS.bundle, FLAGS.role)
  model = generation.Generation(
      bundle, FLAGS.role, FLAGS.steps, FLAGS.guidance, FLAGS.seed, FLAGS.carry,
      FLAGS.color_correction,
  )
  metrics = {'flags': {name: FLAGS[name].value for name in _RECORDED}}
  tables = []
  if FLAGS.clips:
    clips = data[: FLAGS.clips]
    metrics['systems'] = _score_clips(model, bundle, clips, reader, out)
    tables.append(report.table(
        {name: r['figures'] for name, r in metrics['systems'].items()}
    ))
  if FLAGS.seconds:
    clips = [data[i] for i in range(min(max(FLAGS.clips, 8), len(data)))]
    metrics['long'] = _score_long(model, clips, reader, out)
    tables.append(report.table(
        {f'{FLAGS.role}, {FLAGS.seconds:g} s': metrics['long']['figures']},
        report.LONG_ROWS,
    ))
  report.write_json(out / 'metrics.json', metrics)
  report.write_bytes(out / 'table.md', '\n'.join(tables).encode())
  print('\n'.join(tables) + f'\nevaluation in {out}')
