"""What the cluster works on while it is disturbed: a corpus like any other and one with a wide header, each changed at times."""

import os
import pathlib
import shutil
import subprocess
import time

from chaos_parts import vectors_of

# So wide that the description of a source does not travel with each grant.
WIDE_COLUMNS, WIDE_ROWS = 1_500, 24


class Corpus:
    """Copies of some files, what an undisturbed run makes of them, and whether somebody has changed them for a while."""

    def __init__(self, args, folder, files):
        self.encaje, self.folder, self.changed = args.encaje, folder, 0
        folder.mkdir()
        self.files = [shutil.copy2(file, folder) for file in files]
        self.options = [*self.files, "--model", args.model, "--shard-rows", str(args.shard_rows)]
        subprocess.run([self.encaje, "run", *self.options, "--out", str(folder / "alone")], check=True, capture_output=True)
        self.expected = self.vectors_of(folder / "alone")

    def vectors_of(self, target):
        """The digest of the vectors of an output, in row order."""
        return vectors_of(self.encaje, target, self.folder / "vectors.npy")

    def change(self, chance, seconds):
        """Changes a letter in the later half of a file for a while; neither its size nor its time tells."""
        file = pathlib.Path(chance.choice(self.files))
        content = file.read_bytes()
        letters = [at for at in range(len(content) // 2, len(content)) if content[at:at + 1].islower()]
        at = chance.choice(letters)
        for letter in (b"x" if content[at:at + 1] != b"x" else b"y", content[at:at + 1]):
            times = file.stat()
            with file.open("r+b") as opened:
                opened.seek(at)
                opened.write(letter)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
            if letter != content[at:at + 1]:
                time.sleep(seconds)
        self.changed += 1


def wide_corpus(file, texts):
    """Writes a corpus with many columns that takes its texts from the first column after `texts`' header."""
    header = "text," + ",".join(f"column_{number:0>30}" for number in range(WIDE_COLUMNS))
    cells = "," + ",".join("x" for _ in range(WIDE_COLUMNS))
    rows = [f'"{text}"{cells}' for text in texts[:WIDE_ROWS]]
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def texts_of(file):
    """The letters of the lines of a file: texts enough for a corpus."""
    lines = file.read_text().splitlines()[1:]
    return ["".join(letter for letter in line if letter.isalpha() or letter == " ") for line in lines]
