"""Launchers: clean for their linters, and naming only what there is."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

from asymtalker_jax.cli import main as cli

ROOT = pathlib.Path(__file__).parents[2]
SHELL = sorted(
    p for p in [*ROOT.glob('launch/*'), ROOT / 'tests/run.sh', ROOT / '.ci/run']
    if p.suffix in ('.sh', '.sbatch') or p.name == 'run'
)
YAML = sorted(ROOT.glob('launch/*.yaml'))
DOCUMENTS = [p for p in ROOT.glob('launch/*') if p.is_file()]


def tool(name):
  return pathlib.Path(sys.executable).with_name(name)


@pytest.mark.parametrize('path', SHELL, ids=lambda p: p.name)
def test_shell_is_clean(path):
  done = subprocess.run(
      # SC1091: sourced files are found when the script runs.
      [tool('shellcheck'), '--shell=bash', '--exclude=SC1091', path],
      capture_output=True, text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr


def test_yaml_is_clean():
  rules = (
      '{extends: default, rules: {line-length: {max: 80},'
      ' comments: {min-spaces-from-content: 2}}}'
  )
  done = subprocess.run(
      [sys.executable, '-m', 'yamllint', '--strict', '-d', rules, *YAML],
      capture_output=True, text=True,
  )
  assert YAML and done.returncode == 0, done.stdout + done.stderr


def test_jobset_has_as_many_pods_as_its_slice_has_hosts():
  jobset = yaml.safe_load((ROOT / 'launch/gke_jobset.yaml').read_text())
  job = jobset['spec']['replicatedJobs'][0]['template']['spec']
  pod = job['template']['spec']
  rows, columns = map(
      int, pod['nodeSelector']['cloud.google.com/gke-tpu-topology'].split('x')
  )
  container = pod['containers'][0]
  chips = container['resources']['limits']['google.com/tpu']
  assert job['parallelism'] == job['completions'] == rows * columns // chips
  failure = job['podFailurePolicy']['rules'][0]['onExitCodes']
  assert failure['containerName'] == container['name']


def test_commands_name_verbs_and_configs_that_exist():
  for path in DOCUMENTS:
    text = path.read_text()
    for config in re.findall(r'configs/[\w/]+\.py', text):
      assert (ROOT / config).is_file(), f'{path.name}: {config}'
    for verb in re.findall(r'\basymtalker ((?:train|compile)-\w+)', text):
      assert verb in cli.VERBS, f'{path.name}: {verb}'


def flags_of(function, variable):
  """What a function of xla_flags.sh exports."""
  script = f'source {ROOT}/launch/xla_flags.sh; {function}; echo ${variable}'
  env = {k: v for k, v in os.environ.items() if k != variable}
  done = subprocess.run(
      ['bash', '-euc', script], env=env, capture_output=True, text=True,
      check=True,
  )
  return done.stdout.strip()


def test_xla_knows_the_gpu_flags():
  flags = flags_of('xla_flags_gpu', 'XLA_FLAGS')
  assert 'latency_hiding' in flags
  env = dict(os.environ, XLA_FLAGS=flags, JAX_PLATFORMS='cpu')
  done = subprocess.run(
      [sys.executable, '-c', 'import jax; jax.devices()'], env=env,
      capture_output=True, text=True,
  )
  assert done.returncode == 0, done.stderr


def test_single_host_needs_a_kind_of_machine():
  done = subprocess.run(
      ['bash', ROOT / 'launch/single_host.sh', 'abacus'], capture_output=True,
      text=True,
  )
  assert done.returncode == 2 and 'cuda|tpu|cpu' in done.stderr
