"""Progress bars by tqdm, where it is installed."""

from __future__ import annotations

import sys
import warnings
from typing import Any


def bar(show: bool | None, **options: Any) -> Any:
    """Make a bar of ``tqdm.auto``, or None. By default one is shown where somebody looks, and after a second."""
    if show is None:
        show = "ipykernel" in sys.modules or getattr(sys.stderr, "isatty", lambda: False)()
        options.setdefault("delay", 1.0)
    if not show:
        return None
    try:
        with warnings.catch_warnings():
            # Without ipywidgets the bar of a notebook is one of text, which is good enough.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(**options)


class Bars:
    """The bars of one command: a new one whenever it begins something else."""

    def __init__(self, show: bool | None) -> None:
        self._show = show
        self._what: str | None = None
        self._bar: Any = None

    def update(self, what: str, done: int, total: int | None, unit: str, **details: Any) -> None:
        """Show that ``done`` of ``total`` units are done."""
        if what != self._what:
            self.close()
            scale = unit == "B"
            self._what = what
            self._bar = bar(self._show, desc=what, total=total, unit=unit, unit_scale=scale, initial=0)
        if self._bar is None:
            return
        if total != self._bar.total:
            self._bar.total = total
        if details:
            self._bar.set_postfix(details, refresh=False)
        self._bar.update(done - self._bar.n)

    def write(self, text: str) -> None:
        """Print a line on stderr without tearing the bar."""
        if sys.stderr is None:
            return
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        self._what = self._bar = None
