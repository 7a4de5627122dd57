"""Try an installed wheel: the command, the module, both together, and the time to start. Needs nothing that the wheel does not."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import encaje


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.model, arguments.corpus = arguments.model.resolve(), arguments.corpus.resolve()
    command = str(Path(sys.executable).with_name("encaje"))
    assert Path(encaje.__file__).is_relative_to(sys.prefix), encaje.__file__

    subprocess.run([command, "--version"], check=True, stdout=subprocess.DEVNULL)
    times = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run([command, "--version"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        model = encaje.Model(arguments.model)
        vectors = encaje.run(arguments.corpus, model=arguments.model, out="out", quiet=True)
        subprocess.run([command, "verify", "out", "--corpus", arguments.corpus], check=True, stdout=subprocess.DEVNULL)
        numbers = vectors.numpy()
        assert numbers.shape == (len(vectors), model.dimensions)
        assert (model.encode("Le puse un suéter.") ** 2).sum().round(5) == 1
        assert (model.similarity(numbers[:3], numbers) <= 1.00001).all()
        drawn = vectors.project(label="label")
        drawn.save("map.png")
        assert encaje.umap(numbers, metric="cosine").shape == (len(vectors), 2)
        for wants in (vectors.table, vectors.pandas, vectors.polars):
            try:
                wants()
            except ImportError as error:
                assert "pip install" in str(error), error
            else:
                raise AssertionError("this environment has more than the wheel needs")
    print(f"the wheel works: {len(vectors)} rows embedded, `encaje --version` takes {sorted(times)[3] * 1000:.0f} ms")


if __name__ == "__main__":
    main()
