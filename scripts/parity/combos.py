"""The combinations that are tested: each base, each setting on each applicable base, then pairs and triples, untested pairs
first. Deterministic in the seed."""

import itertools
import random
from dataclasses import dataclass

from . import texts as words
from .registry import BASES, SETTINGS, Base


@dataclass(frozen=True)
class Case:
    """A base and its settings, in order of application."""

    base: Base
    settings: tuple
    seed: int

    @property
    def name(self):
        return "+".join([self.base.name, *(setting.name for setting in self.settings)])

    @property
    def options(self):
        return {name: value for setting in self.settings for name, value in setting.options.items()}

    @property
    def named(self):
        """Returns words of which a refusal must contain one."""
        # A generated model may be of a refused kind, whatever its settings.
        names = {"config.json", "tokenizer.json"} if self.base.kinds & {"made", "made-tokenizer"} else set()
        for setting in self.settings:
            names |= {setting.file, *setting.keys}
            # Sizes that do not match the config are detected, and named, in the weights.
            if setting.file == "config.json":
                names |= {"model.safetensors", "pytorch_model.bin"}
        return names

    @property
    def may_be_late(self):
        return any(setting.numbers for setting in self.settings)

    @property
    def rng(self):
        return random.Random(f"{self.seed} {self.name}")

    @property
    def texts(self):
        return words.draw(self.rng, 8)

    @property
    def with_vectors(self):
        """Ids determine vectors if only the tokenizer changed; a quarter of these is run anyway."""
        changed = any(setting.vectors for setting in self.settings) or not self.settings
        return changed or self.rng.random() < 0.25


def compatible(chosen):
    groups = [setting.group for setting in chosen if setting.group]
    return len(set(groups)) == len(groups) and len({setting.name for setting in chosen}) == len(chosen)


def choose(count, seed, modules=None):
    """Returns `count` combinations: every base as it is, every setting alone on one base at least, then pairs, triples and
    fours, and more single ones, by turns."""
    rng = random.Random(seed)
    settings = [setting for setting in SETTINGS.values() if not modules or setting.module in modules]
    order = {setting.name: place for place, setting in enumerate(settings)}
    fitting = {base.name: [setting for setting in settings if setting.fits(base)] for base in BASES.values()}
    cases = {}

    def add(base, chosen):
        case = Case(base, tuple(chosen), seed)
        cases.setdefault(case.name, case)

    for base in BASES.values():
        if not modules or fitting[base.name]:
            add(base, [])
    for setting in settings:
        bases = [base for base in BASES.values() if setting.fits(base)]
        assert bases, f"no base fits {setting.name}: `{setting.kinds}`"
        add(rng.choice(bases), [setting])
    useful = [base for base in BASES.values() if len(fitting[base.name]) > 1]
    tried = set()
    for _ in range(100 * count):
        if len(cases) >= count:
            break
        base = rng.choice(useful)
        size = min(rng.choice([1, 2, 2, 3, 3, 4]), len(fitting[base.name]))
        chosen = sorted(rng.sample(fitting[base.name], size), key=lambda setting: order[setting.name])
        pairs = {(a.name, b.name) for a, b in itertools.combinations(chosen, 2)}
        # A pair may be repeated on another base or with a third setting, after those not yet tried.
        if compatible(chosen) and (not pairs or pairs - tried or rng.random() < 0.2):
            tried |= pairs
            add(base, chosen)
    return list(cases.values())


def named_case(name, seed):
    """Returns the combination with a name from the table."""
    base, *settings = name.split("+")
    return Case(BASES[base], tuple(SETTINGS[setting] for setting in settings), seed)
