"""Encoding a dataset in parts under Apache Beam, the extra [beam].

A part is what one of --workers machines would do by itself
(`encode_dataset`). Beam only hands out the numbers of the parts; one that a
cluster's runner starts again goes on with the shard it was at.
"""

import json
import shlex

import ml_collections

from asymtalker_jax.inputs import encoded
from asymtalker_jax.train import encode_dataset as encode_lib


def encode_dataset(
    config: ml_collections.ConfigDict,
    data: str,
    vae: str,
    out: str,
    workers: int,
    options: str,
) -> dict[str, int]:
  """Encodes every split of a dataset; waits until all parts are done.

  Args:
    config: of `configs/encode.py`.
    data: folder of `asymtalker data build`, on a file system of all machines.
    vae: bundle with a VAE, likewise.
    out: folder of the encoded dataset, likewise.
    workers: parts; more than Beam has machines is fine, but each loads the
      networks anew.
    options: of Beam, as on its command line; '' for the direct runner.

  Returns:
    Examples per split.

  Raises:
    ModuleNotFoundError: Beam is not installed.
    ValueError: workers < 1, an option that Beam refuses, or as
      `encode_dataset.encode_dataset`.
    FileNotFoundError: the parts are done and a shard is missing, as where the
      machines do not share `out`.
  """
  try:
    # pylint: disable=import-outside-toplevel
    import apache_beam as beam
    from apache_beam.options import pipeline_options
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'Apache Beam is not installed ({error}); expected pip install'
        " -e '.[beam]'"
    ) from error
  if workers < 1:
    raise ValueError(f'workers={workers}: expected 1 or more parts')
  with beam.Pipeline(options=pipeline_options.PipelineOptions(
      shlex.split(options)
  )) as pipeline:
    # Without the reshuffle a runner may give all parts to one machine.
    _ = (
        pipeline
        | 'Parts' >> beam.Create(range(workers))
        | 'Spread' >> beam.Reshuffle()
        | 'Encode' >> beam.Map(
            _encode_part, config.to_json(), data, vae, out, workers
        )
    )
  return {
      split: len(encoded.open_encoded(out, split)) for split in config.clips
  }


def _encode_part(
    worker: int, config: str, data: str, vae: str, out: str, workers: int
) -> None:
  """One part, on whichever machine; `config` is JSON."""
  encode_lib.encode_dataset(
      ml_collections.ConfigDict(json.loads(config)),
      data, vae, out, worker, workers,
  )
