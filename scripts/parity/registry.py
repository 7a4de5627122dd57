"""What a combination is made of: a base (a model folder), settings (changes of its files, options of the command), and the
folder that they are applied to. `tokenizers.py`, `sentence.py`, `weights.py` and `families.py` fill the registry.

A new setting is one line:

    put("split-special", "tokenizer_config.json", "bert", split_special_tokens=True)
"""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

TESTDATA = Path(__file__).resolve().parents[2] / "engine" / "testdata"

BASES: dict[str, "Base"] = {}
SETTINGS: dict[str, "Setting"] = {}


@dataclass(frozen=True)
class Base:
    """A model folder that settings are applied to. `make` fills it; it is made once per run and then linked."""

    name: str
    kinds: frozenset
    make: Callable[["Folder"], None]


@dataclass(frozen=True)
class Setting:
    """One change of a model's files, or one option of the command.

    `kinds` says which bases it fits: words that must all be among the base's kinds, `a|b` is either, `!a` is not.
    A refusal must name `file`, or one of `keys`. Two settings of one `group` are never combined.
    `vectors` says that it is worth comparing vectors, and not only ids. `numbers` says that the setting is about the numbers of
    the weights, which are read when a worker loads the model: a refusal may come as late as that.
    """

    name: str
    file: str
    change: Callable[["Folder"], None]
    kinds: str = ""
    keys: tuple = ()
    group: str = ""
    vectors: bool = False
    numbers: bool = False
    options: dict = field(default_factory=dict)
    module: str = ""

    def fits(self, base: Base) -> bool:
        def holds(word):
            return word[1:] not in base.kinds if word.startswith("!") else bool(set(word.split("|")) & base.kinds)

        return all(holds(word) for word in self.kinds.split())


class Folder:
    """A model folder under modification. Files may be hard links: they are replaced, never modified in place."""

    def __init__(self, path):
        self.path = Path(path)

    def json(self, name):
        """Returns the content of a JSON file, or None without it."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else None

    def write(self, name, content):
        """Writes a file: a string and bytes as they are, anything else as JSON."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            path.write_text(text, encoding="utf-8")

    def remove(self, *names):
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def update(self, name, **values):
        """Sets keys of a JSON file, creating it if missing."""
        self.write(name, {**(self.json(name) or {}), **values})

    def root(self):
        """The folder, relative, that has config.json: not the first one in older models of sentence-transformers."""
        return "0_Transformer/" if (self.path / "0_Transformer").is_dir() else ""

    def copy(self, source, ignore=("goldens*",)):
        """Copies (links, where possible) the files of another folder into this one."""
        shutil.copytree(
            source, self.path, ignore=shutil.ignore_patterns(*ignore), dirs_exist_ok=True, copy_function=link_or_copy
        )

    def tensors(self):
        """All tensors of the folder's weights, by name, each on its own."""
        from safetensors.torch import load_file
        import torch

        found = {}
        files = sorted(self.path.glob(self.root() + "*.safetensors"))
        for file in files:
            found |= load_file(file)
        if not files:
            for file in sorted(self.path.glob(self.root() + "pytorch_model*.bin")):
                found |= torch.load(file, weights_only=True)
        return {name: tensor.clone().contiguous() for name, tensor in found.items()}

    def without_weights(self):
        for pattern in ("*.safetensors", "*.bin", "*.index.json"):
            for file in self.path.glob(self.root() + pattern):
                file.unlink()
        return self

    def save(self, tensors, name="model.safetensors"):
        """Writes tensors as the only weights of the folder, by the extension of `name`."""
        from safetensors.torch import save_file
        import torch

        self.without_weights()
        path = self.path / (self.root() + name)
        if name.endswith(".safetensors"):
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
        else:
            torch.save(tensors, path)


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def base(name, kinds, make):
    """Registers a base. `make` is a function of the folder, or the name of a folder of the test data."""
    if isinstance(make, str):
        source = TESTDATA / make
        make = lambda folder: folder.copy(source)  # noqa: E731
    assert name not in BASES and "+" not in name, name
    BASES[name] = Base(name, frozenset(kinds.split()), make)


def setting(name, file, change, kinds="", **more):
    """Registers a setting whose `change` is a function of the folder."""
    assert name not in SETTINGS and "+" not in name, name
    module = change.__globals__["__name__"].rsplit(".", 1)[-1] if "module" not in more else more.pop("module")
    SETTINGS[name] = Setting(name, file, change, kinds, module=module, **more)


def put(name, file, kinds="", /, *, also=None, vectors=False, group="", **values):
    """Registers a setting that puts keys into a JSON file. `also` is a dictionary for keys that are no Python names."""
    values = {**values, **(also or {})}
    import inspect

    module = inspect.currentframe().f_back.f_globals["__name__"].rsplit(".", 1)[-1]
    setting(
        name, file, lambda folder: folder.update(folder.root() + file, **values), kinds,
        keys=(*values, *(f"`{value}`" for value in values.values() if isinstance(value, str))),
        group=group or f"{file}:{sorted(values)[0]}", vectors=vectors, module=module,
    )


def drop(name, file, kinds="", /, *keys, vectors=False):
    """Registers a setting that removes keys of a JSON file, or without keys the file."""
    import inspect

    def change(folder):
        path = folder.root() + file
        if not keys:
            return folder.remove(path)
        content = folder.json(path)
        if content is not None:
            folder.write(path, {key: value for key, value in content.items() if key not in keys})

    module = inspect.currentframe().f_back.f_globals["__name__"].rsplit(".", 1)[-1]
    setting(
        name, file, change, kinds, keys=keys, group=f"{file}:{sorted(keys)[0] if keys else ''}", vectors=vectors,
        module=module,
    )


def option(name, kinds="", /, **options):
    """Registers an option of the command, such as `max_length=9`, that the reference gets as well."""
    import inspect

    module = inspect.currentframe().f_back.f_globals["__name__"].rsplit(".", 1)[-1]
    keys = tuple("--" + key.replace("_", "-") for key in options)
    setting(
        name, keys[0], lambda folder: None, kinds, keys=keys, group=keys[0], vectors=True, options=options, module=module
    )
