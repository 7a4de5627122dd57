#!/usr/bin/env python3
"""Makes atlas/src/plot/assets: the drawings of the emojis as one compressed file, and a font cut to what labels need.

    python scripts/make_plot_assets.py --twemoji DIR --fonts DIR

DIR of --twemoji is the folder `assets/svg` of the crate twemoji-assets 1.5.1 (or of the project jdecked/twemoji, 17.0.2);
DIR of --fonts holds DejaVuSans.ttf and DejaVuSans-Bold.ttf, as matplotlib has them. Needs fonttools, and `zstd` on PATH.

twemoji.zst, unpacked, has a line per emoji: its code points in hex without U+FE0F, joined by `-`; a tab; what stands
between <svg viewBox="0 0 36 36"> and </svg>. Lines are sorted by bytes.
"""

import argparse
import re
import shutil
import subprocess
from pathlib import Path

from fontTools import subset

OUT = Path(__file__).resolve().parent.parent / "atlas" / "src" / "plot" / "assets"

# Latin with its extensions, IPA, Greek, Cyrillic, punctuation, currency, arrows, operators, shapes.
RANGES = [
    (0x20, 0x7E), (0xA0, 0x24F), (0x259, 0x259), (0x2B0, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF),
    (0x1E00, 0x1EFF), (0x2010, 0x205E), (0x2070, 0x209C), (0x20A0, 0x20BF), (0x2116, 0x2116), (0x2122, 0x2122),
    (0x2190, 0x21FF), (0x2200, 0x22FF), (0x25A0, 0x25FF), (0xFFFD, 0xFFFD),
]


def emojis(folder):
    lines = []
    for file in folder.glob("*.svg"):
        text = " ".join(file.read_text(encoding="utf-8").split())
        head, body, _ = re.fullmatch(r"(<svg[^>]*>)(.*)(</svg>)", text).groups()
        if 'viewBox="0 0 36 36"' not in head:
            x, y, width, height = map(float, re.search(r'viewBox="([^"]*)"', head)[1].split())
            scale = 36 / max(width, height)
            dx, dy = (36 - width * scale) / 2 - x * scale, (36 - height * scale) / 2 - y * scale
            body = f'<g transform="translate({dx:g} {dy:g}) scale({scale:g})">{body}</g>'
        key = "-".join(code for code in file.stem.split("-") if code != "fe0f")
        # Names inside a drawing must not collide with those of another one on the same page.
        for name in set(re.findall(r'id="([^"]*)"', body)):
            own = f"e{key}{name}"
            body = body.replace(f'id="{name}"', f'id="{own}"').replace(f"#{name}", f"#{own}")
        lines.append(f"{key}\t{body}")
    assert len({line.split("\t")[0] for line in lines}) == len(lines), "two drawings of one emoji"
    return "\n".join(sorted(lines)) + "\n"


def font(source, target):
    options = subset.Options(layout_features=["kern", "mark", "mkmk", "ccmp"], hinting=False, name_IDs=[0, 1, 2, 4, 6, 13, 14])
    loaded = subset.load_font(str(source), options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=[code for first, last in RANGES for code in range(first, last + 1)])
    cutter.subset(loaded)
    subset.save_font(loaded, str(target), options)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--twemoji", type=Path, required=True)
    arguments.add_argument("--fonts", type=Path, required=True)
    given = arguments.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["zstd", "-q", "-f", "-19", "--no-check", "-o", str(OUT / "twemoji.zst")],
        input=emojis(given.twemoji).encode(), check=True,
    )
    for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"):
        font(given.fonts / name, OUT / name)
    shutil.copy(given.fonts / "LICENSE_DEJAVU", OUT / "LICENSE-DejaVu.txt")
    for file in sorted(OUT.iterdir()):
        print(f"{file.stat().st_size:>9} {file.name}")


if __name__ == "__main__":
    main()
