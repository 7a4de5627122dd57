"""The corpora of the disturbed cluster: an ordinary one and one with a wide header, each changed at times."""

import os
import pathlib
import shutil
import subprocess
import time

from chaos_parts import vectors_of

# So wide that grants do not include the description of a source.
WIDE_COLUMNS, WIDE_ROWS = 1_500, 24
# One of so many letters of a corpus is changed.
CHANGED_EVERY = 100


class Corpus:
    """Copies of some files, and the result of an undisturbed run."""

    def __init__(self, args, folder, files):
        self.encaje, self.folder = args.encaje, folder
        folder.mkdir()
        self.files = [shutil.copy2(file, folder) for file in files]
        self.options = [*self.files, "--model", args.model, "--shard-rows", str(args.shard_rows)]
        subprocess.run([self.encaje, "run", *self.options, "--out", str(folder / "alone")], check=True, capture_output=True)
        self.expected = self.vectors_of(folder / "alone")

    def vectors_of(self, target):
        """Returns the digest of the vectors of an output, in row order."""
        return vectors_of(self.encaje, target, self.folder / "vectors.npy")

    def change(self, chance, seconds):
        """Changes letters throughout a file for a while, keeping size and time."""
        file = pathlib.Path(chance.choice(self.files))
        content = file.read_bytes()
        start = chance.randrange(CHANGED_EVERY)
        changed = bytearray(content)
        # After the header, which has the column names.
        for at in range(content.index(b"\n") + start, len(content), CHANGED_EVERY):
            if content[at:at + 1].islower():
                changed[at] ^= 1
        self.overwrite(file, changed)
        time.sleep(seconds)
        self.overwrite(file, content)

    def overwrite(self, file, content):
        times = file.stat()
        with file.open("r+b") as opened:
            opened.write(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def wide_corpus(file, texts):
    """Writes a corpus with many columns that takes its texts from the first column after `texts`' header."""
    header = "text," + ",".join(f"column_{number:0>30}" for number in range(WIDE_COLUMNS))
    cells = "," + ",".join("x" for _ in range(WIDE_COLUMNS))
    rows = [f'"{text}"{cells}' for text in texts[:WIDE_ROWS]]
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def texts_of(file):
    """Returns the letters of the lines of a file."""
    lines = file.read_text().splitlines()[1:]
    return ["".join(letter for letter in line if letter.isalpha() or letter == " ") for line in lines]
