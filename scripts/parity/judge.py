"""Runs Encaje on one combination, queries the references, and compares them."""

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

COSINE_MIN = 0.99999
SECONDS_MAX = 120

# Verdicts. Those of FAILED end `make parity` with 1.
EQUAL, BOTH, REFUSED, ACCEPTED = "equal", "both refuse", "refused", "accepted"
DIFFERENT, UNNAMED, LATE, CRASH = "DIFFERENT", "UNNAMED", "LATE", "CRASH"
GOOD = (EQUAL, BOTH, REFUSED, ACCEPTED)
FAILED = (DIFFERENT, UNNAMED, LATE, CRASH)
MEANING = {
    EQUAL: f"ids are equal, and the least cosine is {COSINE_MIN} or more",
    BOTH: "Encaje and the reference refuse",
    REFUSED: "Encaje refuses by name what the reference does",
    DIFFERENT: "other ids or vectors, silently",
    ACCEPTED: "Encaje computes what the reference refuses",
    UNNAMED: "a refusal that names neither the file nor the key",
    LATE: "a refusal after the corpus was planned",
    CRASH: "a panic, a signal, or no end within the time",
}


@dataclass
class Outcome:
    """The result of one process of Encaje."""

    code: int
    stdout: str
    stderr: str

    @property
    def crashed(self):
        return self.code < 0 or self.code in (101, 134, 139) or "panicked at" in self.stderr

    @property
    def sentence(self):
        lines = [line for line in self.stderr.splitlines() if line.startswith("error")] or self.stderr.splitlines()
        return lines[0][:400] if lines else ""


@dataclass
class Judgement:
    verdict: str
    detail: str = ""
    cosine: float = 1.0
    by: str = ""
    seconds: float = 0.0
    # The digest of the model in the output, and what the reference gave for the first texts, which all combinations share.
    digest: str = ""
    sample: tuple = ()
    answer: object = field(default=None, repr=False)


def command(encaje, *arguments, work):
    # Options could also come from the environment or a file in the current folder.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENCAJE_")}
    return subprocess.Popen(
        [encaje, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=work,
        env=environment,
    )


def finish(process):
    try:
        out, err = process.communicate(timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += b"\npanicked at: no end within the time"
    return Outcome(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def options_of(options):
    """Returns the command's options by name. Those of `run` only are not for `tokenize`."""
    def spelled(name, value):
        flag = "--" + name.replace("_", "-")
        return [flag] if value is True else [f"{flag}={value}"]

    both = [part for name in ("max_length", "prefix", "prompt") if name in options for part in spelled(name, options[name])]
    run = [
        part for name in ("pooling", "no_normalize", "dimensions") if name in options for part in spelled(name, options[name])
    ]
    return both, run


def judge(encaje, folder, work, case, texts=None, with_vectors=None):
    """Compares one combination in a model folder; `work` is a folder for the output, emptied first. `texts` and
    `with_vectors` take the place of the combination's own."""
    from . import reference

    started = time.monotonic()
    work, options = Path(work), case.options
    texts = texts or case.texts
    with_vectors = case.with_vectors if with_vectors is None else with_vectors
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    both, run_only = options_of(options)
    # A NUL cannot be passed as an argument; such texts are compared by their vectors only.
    typed = [text for text in texts if "\0" not in text]
    tokenize = command(encaje, "tokenize", "--json", "--model", str(folder), *both, "--", *typed, work=work)
    run = None
    if with_vectors:
        corpus = work / "texts.jsonl"
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        run = command(
            encaje, "run", str(corpus), "--model", str(folder), "--out", str(work / "out"), "--device", "cpu",
            "--threads", "1", *both, *run_only, work=work,
        )
    answer = reference.answer(folder, texts, options, with_vectors)
    tokenized = finish(tokenize)
    ran = finish(run) if run else None
    judgement = compare(answer, texts, typed, tokenized, ran, work / "out", case)
    judgement.by, judgement.answer = answer.by, answer
    judgement.seconds = time.monotonic() - started
    shutil.rmtree(work, ignore_errors=True)
    return judgement


def compare(answer, texts, typed, tokenized, ran, out, case):
    for outcome in (tokenized, ran):
        if outcome and outcome.crashed:
            return Judgement(CRASH, tail(outcome.stderr))
    final = ran or tokenized
    if final.code != 0:
        return refusal(answer, final, out, case)
    if answer.refused:
        return Judgement(ACCEPTED, f"the reference refuses: {answer.refused}")
    problem = compare_ids(answer, texts, typed, tokenized)
    if problem:
        return Judgement(DIFFERENT, problem)
    if not ran:
        return Judgement(EQUAL)
    problem, cosine = compare_vectors(answer, texts, out)
    judgement = Judgement(DIFFERENT if problem else EQUAL, problem, cosine)
    if not problem:
        footer = pq.read_metadata(sorted(out.glob("part-*.parquet"))[0]).metadata
        judgement.digest = footer[b"encaje.model_digest"].decode()
        judgement.sample = [(answer.ids[i], answer.vectors[i]) for i in range(2)]
    return judgement


def refusal(answer, outcome, out, case):
    # A refusal before planning leaves no files.
    if out.exists() and any(out.iterdir()) and not case.may_be_late:
        return Judgement(LATE, outcome.sentence)
    sentence = outcome.sentence
    if not any(name in outcome.stderr for name in case.named):
        return Judgement(UNNAMED, sentence)
    return Judgement(BOTH if answer.refused else REFUSED, sentence)


def tail(stderr):
    return " / ".join(stderr.strip().splitlines()[-3:])[-500:]


def objects(text):
    """Parses concatenated JSON objects."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while match := re.compile(r"\s*(?=\{)").match(text, at):
        value, at = decoder.raw_decode(text, match.end())
        found.append(value)
    return found


def compare_ids(answer, texts, typed, tokenized):
    right = dict(zip(texts, answer.ids))
    printed = objects(tokenized.stdout)
    for found in printed:
        text, expected = found["text"], right[found["text"]]
        ids = [token["id"] for token in found["tokens"]]
        if expected is not None and ids != expected:
            return f"ids of {text[:60]!r}: {shown(ids, expected)}"
        if found["n_tokens"] != len(ids):
            return f"`n_tokens` of {text[:60]!r}: {found['n_tokens']} for {len(ids)} tokens"
    if tokenized.code == 0 and len(printed) == len(typed):
        return ""
    # A text that cannot be tokenized ends the command, while `run` rejects single rows.
    failed = typed[len(printed)] if len(printed) < len(typed) else None
    if tokenized.code != 0 and failed is not None and right[failed] is None:
        return ""
    return f"tokenize fails at {str(failed)[:60]!r}: {tokenized.sentence}"


def shown(found, expected):
    """Formats two lists of ids around their first difference."""
    at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
    start = max(0, at - 2)
    return (
        f"{found[start:at + 6]} is not {expected[start:at + 6]} (from token {start}; {len(found)} and {len(expected)} tokens)"
    )


def compare_vectors(answer, texts, out):
    """Returns the differences, and the smallest cosine."""
    columns = pq.read_table(sorted(out.glob("part-*.parquet"))).to_pydict()
    if len(columns["text"]) != len(texts):
        return f"{len(columns['text'])} rows for {len(texts)} texts", 0.0
    least = 1.0
    for row, text in enumerate(texts):
        if columns["text"][row] != text:
            return f"row {row} has another text", 0.0
        ids, vector = answer.ids[row], answer.vectors[row]
        found = {name: columns[name][row] for name in ("embedding", "error", "n_tokens", "truncated")}
        problem, cosine = compare_row(text, ids, vector, found)
        if not problem and found["error"] is None and answer.truncated[row] not in (None, found["truncated"]):
            problem = f"`truncated` is {found['truncated']}"
        if problem:
            return f"row {row}, {text[:60]!r}: {problem}", min(cosine, least)
        least = min(least, cosine)
    return "", least


def compare_row(text, ids, vector, found):
    """Returns the problem of a row, and its cosine."""
    reason = found["error"]
    if reason == "empty_text" and (not text.strip() or not ids):
        return "", 1.0
    if vector is None or not np.isfinite(vector).all():
        # The reference fails on this text, so there is nothing to compare with.
        return "", 1.0
    if reason is not None:
        return f"rejected as {reason}, the reference has a vector", 0.0
    if found["n_tokens"] != len(ids):
        return f"{found['n_tokens']} tokens, the reference has {len(ids)}", 0.0
    given = np.array(found["embedding"], dtype=np.float64)
    if len(given) != len(vector):
        return f"{len(given)} dimensions, the reference has {len(vector)}", 0.0
    norms = np.linalg.norm(given), np.linalg.norm(vector)
    if not all(norms):
        return ("", 1.0) if not any(norms) else (f"lengths {norms}", 0.0)
    cosine = float(given @ vector / norms[0] / norms[1])
    if not cosine >= COSINE_MIN:
        return f"cosine {cosine:.6f}", cosine
    if abs(norms[0] / norms[1] - 1) > 1e-3:
        return f"length {norms[0]:.5f}, the reference has {norms[1]:.5f}", cosine
    return "", cosine


def one_digest_two_models(cases, results):
    """Finds combinations with equal digest and options but different reference vectors, where a job would resume with another
    model. Returns pairs of names."""
    seen, wrong = {}, []
    for case in cases:
        result = results[case.name]
        if not result.digest:
            continue
        key = (result.digest, json.dumps(case.options, sort_keys=True))
        first, sample = seen.setdefault(key, (case.name, result.sample))
        if any(differs(a, b) for a, b in zip(sample, result.sample)):
            wrong.append((first, case.name))
    return wrong


def differs(a, b):
    (ids, vector), (other_ids, other) = a, b
    if ids != other_ids or vector is None or other is None:
        return ids != other_ids
    norms = np.linalg.norm(vector) * np.linalg.norm(other)
    return len(vector) != len(other) or bool(norms) and float(vector @ other) / norms < 0.9999
