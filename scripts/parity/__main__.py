"""Compares Encaje with transformers and sentence-transformers, and prints a table.

  PYTHONPATH=scripts python -m parity --encaje target/debug/encaje --work build/parity --cases 2000 --seed 1
  PYTHONPATH=scripts python -m parity --encaje target/debug/encaje --work build/parity --case mbert+add-prefix-space-true

Exits with 1 if any combination differs silently, crashes, is refused without a name, or is refused only after the corpus was planned.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from . import combos, configs, families, judge, reference, sentence, tokenizers, vocabularies, weights  # noqa: F401: they fill the registry
from .folders import build, make_bases
from .registry import BASES, SETTINGS

STATE = {}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encaje", type=Path, required=True, help="the program")
    parser.add_argument("--work", type=Path, required=True, help="a folder for models and results")
    parser.add_argument("--cases", type=int, default=2000, help="how many combinations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only", help="names of modules, such as tokenizers,weights: their settings alone")
    parser.add_argument("--base", help="this base alone")
    parser.add_argument("--case", action="append", help="one combination by its name; its folder is kept")
    parser.add_argument("--write-goldens", action="store_true", help="write the goldens of `cargo test` instead")
    given = parser.parse_args()
    given.encaje, given.work = given.encaje.resolve(), given.work.resolve()
    if not given.encaje.is_file():
        parser.error(f"{given.encaje} is not there: build it with `cargo build --package encaje`")
    return given


def run_case(name):
    """Judges one combination in a worker process."""
    given, bases = STATE["given"], STATE["bases"]
    case = combos.named_case(name, given.seed)
    place = given.work / "cases" / multiprocessing.current_process().name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    folder = place / "model"
    try:
        build(case, bases, folder)
        judgement = judge.judge(given.encaje, folder, place / "work", case)
    except Exception as error:  # noqa: BLE001: a fault of this program must not pass for a verdict
        judgement = judge.Judgement("BROKEN", f"{type(error).__name__}: {error}")
    judgement.answer = None
    judgement.detail = judgement.detail.replace(str(folder), "MODEL")
    return case.name, judgement


def run_all(given, cases):
    """Judges all combinations in `--jobs` processes, printing progress."""
    results, started = {}, time.monotonic()
    with multiprocessing.get_context("fork").Pool(given.jobs) as pool:
        for name, judgement in pool.imap_unordered(run_case, [case.name for case in cases], chunksize=4):
            results[name] = judgement
            if judgement.verdict in (*judge.FAILED, "BROKEN"):
                print(f"{judgement.verdict:10} {name}\n           {judgement.detail}", flush=True)
            if len(results) % 200 == 0:
                print(f"… {len(results)} of {len(cases)} after {time.monotonic() - started:.0f} s", flush=True)
    return results


def table(cases, results):
    """Prints counts by module and verdict; refusals of what the reference supports; failures by setting."""
    verdicts = [*judge.GOOD, *judge.FAILED, "BROKEN"]
    modules = {}
    for case in cases:
        module = case.settings[0].module if len({s.module for s in case.settings}) == 1 else "bases" if not case.settings else "mixed"
        modules.setdefault(module, Counter())[results[case.name].verdict] += 1
    used = [v for v in verdicts if any(count[v] for count in modules.values())]
    print("\n" + "settings of".ljust(14) + "".join(v.rjust(14) for v in used) + "all".rjust(8))
    for module, count in [*sorted(modules.items()), ("all", sum(modules.values(), Counter()))]:
        print(module.ljust(14) + "".join(str(count[v]).rjust(14) for v in used) + str(count.total()).rjust(8))
    print()
    for verdict in used:
        print(f"  {verdict}: {judge.MEANING.get(verdict, 'a fault of this program')}")
    refusals(cases, results)
    by_setting(cases, results)
    wrong = judge.one_digest_two_models(cases, results)
    for first, second in wrong:
        print(f"\none digest for two models: {first} and {second}")
    return wrong


def refusals(cases, results):
    """Refusing too much, or too little, is also a fault, but a visible one."""
    listed(cases, results, judge.REFUSED, "refused by name, though the reference does it")
    listed(cases, results, judge.ACCEPTED, "computed, though the reference refuses it")


def listed(cases, results, verdict, title):
    """Combinations of one setting at most that have a verdict, by setting."""
    single = [c for c in cases if len(c.settings) <= 1 and results[c.name].verdict == verdict]
    grouped = {}
    for case in single:
        key = case.settings[0].name if case.settings else case.base.name
        grouped.setdefault(key, []).append(case)
    if grouped:
        print(f"\n{title}:")
    for key, found in sorted(grouped.items()):
        print(f"  {key} (on {', '.join(c.base.name for c in found[:4])}{' …' if len(found) > 4 else ''})")
        print(f"      {results[found[0].name].detail}")


def by_setting(cases, results):
    bad = Counter()
    for case in cases:
        if results[case.name].verdict in (*judge.FAILED, "BROKEN"):
            # The smallest failing combination is the most informative.
            bad[case.name if len(case.settings) <= 1 else "(pairs and more)"] += 1
    if bad:
        print("\nfailures, the single settings first:")
    for name, count in sorted(bad.items(), key=lambda item: (item[0].startswith("("), item[0])):
        print(f"  {name}" + (f": {count}" if count > 1 else f": {results[name].verdict if name in results else count}"))


def report(given, cases, results):
    entries = [
        {"case": c.name, "verdict": r.verdict, "detail": r.detail, "cosine": r.cosine, "by": r.by, "seconds": round(r.seconds, 2)}
        for c in cases for r in [results[c.name]]
    ]
    path = given.work / "report.json"
    path.write_text(json.dumps(entries, indent=1, ensure_ascii=False))
    equal = [r.cosine for r in results.values() if r.verdict == judge.EQUAL]
    least = min(equal, default=1.0)
    print(f"\n{len(results)} combinations, least cosine of the equal ones {least:.7f}; all of them in {path}")


def one(given, names):
    """Judges single combinations and keeps their folders for inspection."""
    bad = 0
    for name in names:
        case = combos.named_case(name, given.seed)
        bases = make_bases(given.work / "single", [case.base.name])
        folder, work = given.work / "single" / "model", given.work / "single" / "work"
        build(case, bases, folder)
        judgement = judge.judge(given.encaje, folder, work, case, with_vectors=True)
        print(f"{judgement.verdict}: {name} ({judgement.by}, least cosine {judgement.cosine:.7f}, folder {folder})")
        print(f"  {judgement.detail or 'no difference'}")
        if judgement.answer.refused:
            print(f"  the reference refuses: {judgement.answer.refused}")
        bad += judgement.verdict in judge.FAILED
    return bad


def main():
    given = arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.write_goldens:
        from . import goldens

        return goldens.write(given)
    if given.case:
        return int(bool(one(given, given.case)))
    cases = combos.choose(given.cases, given.seed, given.only and given.only.split(","))
    if given.base:
        cases = [case for case in cases if case.base.name == given.base]
    started = time.monotonic()
    bases = make_bases(given.work, {case.base.name: None for case in cases})
    print(f"{len(BASES)} bases, {len(SETTINGS)} settings, {len(cases)} combinations (seed {given.seed})", flush=True)
    STATE.update(given=given, bases=bases)
    results = run_all(given, cases)
    shutil.rmtree(given.work / "cases", ignore_errors=True)
    wrong = table(cases, results)
    report(given, cases, results)
    print(f"{time.monotonic() - started:.0f} s")
    return int(bool(wrong) or any(r.verdict in (*judge.FAILED, "BROKEN") for r in results.values()))


if __name__ == "__main__":
    sys.exit(main())
