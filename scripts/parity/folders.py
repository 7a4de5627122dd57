"""Makes the folders of models: bases once, and a combination from its base and settings."""

import shutil

from . import reference
from .registry import BASES, Folder, link_or_copy


def make_bases(work, names):
    """Makes the bases once. Those that the references cannot make are an error of this program."""
    folder = work / "bases"
    shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        (folder / name).mkdir(parents=True)
        with reference.quiet(), reference.torch.inference_mode(False):
            BASES[name].make(Folder(folder / name))
    return folder


def build(case, bases, target):
    """Puts the base's files into `target` and applies the settings."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(bases / case.base.name, target, copy_function=link_or_copy)
    for setting in case.settings:
        setting.change(Folder(target))
