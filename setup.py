"""All is in setup.cfg, but for the presets: `pipelines/` is installed as `kerasft/presets/`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["kerasft*"]), "kerasft.presets"],
    package_dir={"kerasft.presets": "pipelines"},
)
