#!/usr/bin/env python3
"""The steps of the GPU kit, the most valuable first. Every step has a time limit of its own and goes into a file of OUT; what
fails or is missing does not keep the others from running. The table of all steps comes last, whatever happened before.

python steps.py --out OUT [--device cuda:0] [--seconds 460] [--scale 1.0]
"""

import argparse
import contextlib
import glob
import json
import lzma
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time

import numpy as np

KIT = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(KIT))
import bench_gpu

LOG_BYTES_MAX = 8 << 20
# encaje's message without a usable GPU.
NO_DEVICE = ["this binary has no CUDA", "no NVIDIA driver found", "the NVIDIA driver does not start", "there are 0 GPUs"]
# Our own kernels: cuBLASLt's are not checked.
OWN_KERNELS = ["flash_", "attend_", "embed_norm_", "add_norm_", "activate_", "first_tokens_", "pool_"]
# The smallest cosine to f32 that passes.
COSINE_MIN = {"f16": 0.999, "bf16": 0.999, "f32": 0.99999}
# Tokens of a measured corpus, by number format.
TOKENS = {"f16": 6_000_000, "bf16": 6_000_000, "f32": 2_000_000}
PEER_TOKENS = 2_000_000
NOTEBOOK_TEXTS, NOTEBOOK_TOKENS = 3000, 512


class Skip(Exception):
    """A step cannot run here; the text names what is missing."""


class NoDevice(Exception):
    """There is no GPU according to encaje."""


def libraries():
    """Returns the folders with libcublasLt: of Python packages, then of toolkits."""
    places = [f"{place}/nvidia/{part}/lib" for place in [*sys.path, *sysconfig.get_paths().values()] for part in ("cu13", "cublas")]
    places += [*glob.glob("/usr/local/cuda*/lib64"), *glob.glob("/usr/local/cuda*/targets/*/lib"), "/usr/lib/x86_64-linux-gnu"]
    return list(dict.fromkeys(place for place in places if glob.glob(f"{place}/libcublasLt.so*")))


def tool(name):
    """Returns the path of an NVIDIA tool, or raises `Skip`."""
    places = [shutil.which(name), *sorted(glob.glob(f"/usr/local/cuda*/bin/{name}")), *sorted(glob.glob(f"/opt/nvidia/nsight-compute/*/{name}")),
              *(f"{place}/nvidia/cu13/bin/{name}" for place in sys.path)]
    for place in places:
        if place and os.access(place, os.X_OK):
            return place
    raise Skip(f"{name} is not installed")


class Kit:
    """The machine, the folders, the remaining time, and the table."""

    def __init__(self, args):
        self.args, self.device, self.out = args, args.device, args.out.resolve()
        self.formats = ["f32", "bf16"] if args.device == "cpu" else ["f16", "bf16", "f32"]
        self.began, self.ends = time.monotonic(), time.monotonic() + args.seconds
        self.step_ends = self.ends
        self.rows, self.log, self.peer, self.peak = [], None, None, None
        self.out.mkdir(parents=True, exist_ok=True)
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="encaje-gpu-kit-"))
        self.model, self.base = KIT / "model", self.work / "bert-base"
        # The numbers of nvidia-smi.
        self.env = os.environ | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "HF_HUB_OFFLINE": "1"}
        # Where containers have the drivers.
        driver = glob.glob("/usr/local/nvidia/lib64")
        self.env["LD_LIBRARY_PATH"] = ":".join([*libraries(), *filter(None, [os.environ.get("LD_LIBRARY_PATH")]), *driver])
        self.encaje = KIT / "encaje"
        if (KIT / "encaje.xz").exists():
            self.encaje, self.model = self.work / "encaje", self.work / "model"
            self.encaje.write_bytes(lzma.decompress((KIT / "encaje.xz").read_bytes()))
            self.encaje.chmod(0o755)
            shutil.copytree(KIT / "model", self.model, ignore=shutil.ignore_patterns("*.xz"))
            packed = KIT / "model/model.safetensors.xz"
            (self.model / "model.safetensors").write_bytes(lzma.decompress(packed.read_bytes()))

    # ---------------------------------------------------------------- steps

    def step(self, name, file, limit, run):
        """Runs one step, records its result, and writes the current table."""
        began = time.monotonic()
        self.step_ends = min(began + limit, self.ends)
        with open(self.out / file, "a", encoding="utf8") as self.log:
            self.say(f"==== {name}, {time.strftime('%H:%M:%S')}, {self.left():.0f} s")
            try:
                if self.left() < 2:
                    raise Skip("no time left")
                state, figures = "ok", run(self)
            except NoDevice as error:
                state, figures = "no device", str(error)
            except Skip as error:
                state, figures = "skipped", str(error)
            except subprocess.TimeoutExpired:
                state, figures = "failed", f"not done after {time.monotonic() - began:.0f} s"
            except Exception as error:
                state, figures = "failed", f"{type(error).__name__}: {error}".strip().splitlines()[0]
            self.say(f"---- {state}: {figures}")
        self.rows.append((name, state, time.monotonic() - began, figures, file))
        self.write_table()

    def write_table(self):
        rows = [("step", "result", "s", "figures", "file")]
        rows += [(name, state, f"{seconds:.1f}", figures, file) for name, state, seconds, figures, file in self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join([*(row[column].ljust(widths[column]) for column in range(3)), f"{row[3]}  [{row[4]}]"]) for row in rows]
        whole = time.monotonic() - self.began
        (self.out / "table.txt").write_text("\n".join(lines) + f"\n{len(self.rows)} steps in {whole:.0f} s on {self.device}\n", encoding="utf8")

    def say(self, text):
        if self.log.tell() < LOG_BYTES_MAX:
            self.log.write(str(text)[:LOG_BYTES_MAX // 4] + "\n")
            self.log.flush()

    def left(self):
        return max(self.step_ends - time.monotonic(), 0.0)

    def call(self, *command, limit=None, codes=(0,)):
        """Runs a command and its children within the step's time, and returns its output."""
        words = [str(word) for word in command]
        self.say("$ " + " ".join(words))
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   errors="replace", env=self.env, cwd=self.work, start_new_session=True)
        try:
            stdout, stderr = process.communicate(timeout=min(limit or 1e9, self.left()))
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            self.say(stdout + stderr)
            raise
        self.say(stdout + stderr)
        self.raise_without_device(stdout + stderr)
        if process.returncode not in codes:
            last = (stderr.strip() or stdout.strip() or "it said nothing").splitlines()
            raise bench_gpu.Failed(f"ended with {process.returncode}: {next((line for line in last if line.startswith('error')), last[-1])}")
        return stdout, stderr

    @staticmethod
    def raise_without_device(said):
        for words in NO_DEVICE:
            if words in said:
                raise NoDevice(words)

    # ---------------------------------------------------------------- shared by steps

    def embed(self, corpus, out, model, dtype, max_length=None, more=()):
        """Runs `encaje run`, and returns its summary and the elapsed seconds."""
        shutil.rmtree(self.work / out, ignore_errors=True)
        command = bench_gpu.run_command(self.encaje, corpus, self.work / out, model, self.device, dtype, max_length)
        began = time.perf_counter()
        stdout, _ = self.call(*command, *more)
        return json.loads(stdout), time.perf_counter() - began

    def bert_base(self):
        """Returns a model of BERT-base's shape with seeded weights and the kit's tokenizer, created on first use."""
        if not (self.base / "model.safetensors").exists():
            make_bert_base(self.model, self.base, self.args.scale)
        return self.base

    def corpus(self, name, lengths, tokens):
        """Returns a corpus of about `tokens` tokens, and its rows."""
        rows = max(int(tokens * self.args.scale * len(lengths) / sum(lengths)), 32)
        path = self.work / f"{name}-{max(lengths)}-{rows}.parquet"
        if not path.exists():
            bench_gpu.make_corpus(path, lengths, rows, KIT / "frases.csv")
        return path, rows

    def ask(self, **request):
        """Queries sentence-transformers; raises `Skip` without it."""
        if self.peer is None:
            raise Skip("sentence-transformers was not started")
        signal.setitimer(signal.ITIMER_REAL, max(self.left(), 0.1))
        try:
            try:
                self.peer.wait()
            except bench_gpu.Failed as error:
                raise Skip(str(error)) from error
            answer = self.peer.ask(**request)
        except TimeoutError:
            # An outstanding answer would be taken for the next one.
            self.peer.close()
            self.peer = None
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.say(f"{request} -> {answer}")
        return answer

    def close(self):
        if self.peer is not None:
            self.peer.close()
        shutil.rmtree(self.work, ignore_errors=True)


def make_bert_base(source, target, scale):
    """Writes a BERT of the base size (12 layers of 768), smaller where `scale` is far below 1, in f16 from a fixed seed."""
    layers, hidden, heads, inner = (12, 768, 12, 3072) if scale > 0.1 else (2, 64, 2, 128)
    config = json.loads((source / "config.json").read_text())
    config |= {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": inner,
               "max_position_embeddings": 512, "type_vocab_size": 2}
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("model.safetensors"))
    (target / "config.json").write_text(json.dumps(config))
    (target / "1_Pooling").mkdir(exist_ok=True)
    (target / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True}))
    kinds = ["Transformer", "Pooling"]
    (target / "modules.json").write_text(json.dumps([
        {"idx": at, "name": str(at), "path": f"{at}_{kind}" if at else "", "type": f"sentence_transformers.models.{kind}"} for at, kind in enumerate(kinds)]))
    (target / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512, "do_lower_case": False}))
    shapes = {"embeddings.word_embeddings.weight": (config["vocab_size"], hidden), "embeddings.position_embeddings.weight": (512, hidden),
              "embeddings.token_type_embeddings.weight": (2, hidden), **norm("embeddings.LayerNorm", hidden)}
    for layer in range(layers):
        at = f"encoder.layer.{layer}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= linear(at + name, hidden, hidden)
        shapes |= norm(at + "attention.output.LayerNorm", hidden)
        shapes |= {**linear(at + "intermediate.dense", hidden, inner), **linear(at + "output.dense", inner, hidden)}
        shapes |= norm(at + "output.LayerNorm", hidden)
    chance, header, parts, at = np.random.default_rng(7), {}, [], 0
    for name, shape in shapes.items():
        # Initialised like transformers: normal weights, zero biases, identity norms.
        numbers = chance.standard_normal(shape, np.float32) * np.float32(0.02) if len(shape) == 2 else np.full(shape, name.endswith("LayerNorm.weight"))
        parts.append(numbers.astype("<f2").tobytes())
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (target / "model.safetensors").write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *parts]))


def linear(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


# ---------------------------------------------------------------- the steps

def facts(kit):
    found = {"python": platform.python_version(), "libc": "-".join(platform.libc_ver()), "cpus": os.cpu_count(), "cublasLt": libraries()}
    for name in ("compute-sanitizer", "ncu"):
        try:
            found[name] = tool(name)
        except Skip as error:
            found[name] = str(error)
    kit.say(json.dumps(found, indent=1))
    kit.call(kit.encaje, "--version")
    try:
        smi = tool("nvidia-smi")
    except Skip as error:
        raise NoDevice(str(error)) from error
    fields = "name,driver_version,compute_cap,memory.total,memory.free,clocks.sm,clocks.max.sm,clocks.mem,power.limit,pstate,mig.mode.current"
    facts, _ = kit.call(smi, f"--query-gpu={fields}", "--format=csv,noheader")
    kit.call(smi)
    if not found["cublasLt"] and kit.device != "cpu":
        raise bench_gpu.Failed("no libcublasLt in the Python packages, nor under /usr/local/cuda*")
    return facts.strip().replace("\n", " | ")


def self_test(kit):
    model = kit.bert_base()
    stdout, _ = kit.call(kit.encaje, "self-test", "--json", "--device", kit.device, "--model", model,
                         *(["--quick"] if kit.args.scale < 0.1 else []), codes=(0, 1))
    events = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
    checks = [event for event in events if event["event"] == "check"]
    failures = [event["name"] for event in checks if not event["passed"]]
    kit.peak = bench_gpu.peak_of(events)
    for event in events:
        if event["event"] == "measure":
            kit.say(f"{event['value']:14,.3f} {event['unit']:9} {event['name']}")
    if failures or not events or events[-1] != {"event": "done", "passed": True}:
        raise bench_gpu.Failed(f"{len(failures)} of {len(checks)} checks failed: {', '.join(failures[:4])}")
    speeds = [f"{event['value']:,.0f} at {event['name'].removeprefix('texts of ')}" for event in events
              if event["event"] == "measure" and event["unit"] == "tokens/s" and event["name"].split(", ")[-1] == kit.formats[0]]
    return f"{len(checks)} checks passed; bf16 product {kit.peak:.1f} TFLOP/s; BERT-base tokens/s: {'; '.join(speeds)}"


def vectors(dtype):
    def run(kit):
        summary, seconds = kit.embed(KIT / "frases.csv", "vectors", kit.model, dtype)
        if not (KIT / "reference.npy").exists():
            raise Skip(f"{summary['rows']} rows in {seconds:.1f} s; the kit has no reference vectors of this model")
        reference = np.load(KIT / "reference.npy")
        found = bench_gpu.first_vectors(kit.work / "vectors", len(reference))
        if found.shape != reference.shape:
            raise bench_gpu.Failed(f"{found.shape} vectors for {reference.shape}")
        cosine = bench_gpu.least_cosine(reference, found)
        kit.say(f"{dtype}: least cosine {cosine:.8f}, largest difference {np.abs(reference - found).max():.2e}")
        # Fails for NaN.
        if not cosine >= COSINE_MIN[dtype]:
            raise bench_gpu.Failed(f"least cosine {cosine:.7f}, less than {COSINE_MIN[dtype]}")
        return f"{len(reference)} rows, least cosine {cosine:.7f}"
    return run


def notebook(kit):
    """The case that ran out of memory with transformers: 3,000 texts of 512 tokens at once."""
    model = kit.bert_base()
    few, _ = kit.corpus("few", [NOTEBOOK_TOKENS], 1)
    kit.embed(few, "few", model, kit.formats[0], NOTEBOOK_TOKENS)
    corpus, rows = kit.corpus("notebook", [NOTEBOOK_TOKENS], NOTEBOOK_TEXTS * NOTEBOOK_TOKENS)
    summary, seconds = kit.embed(corpus, "notebook", model, kit.formats[0], NOTEBOOK_TOKENS)
    if summary["tokens"] != rows * NOTEBOOK_TOKENS:
        raise bench_gpu.Failed(f"{summary['tokens']} tokens for {rows} texts of {NOTEBOOK_TOKENS}")
    return f"{rows} texts of {NOTEBOOK_TOKENS} tokens in {seconds:.1f} s, {summary['tokens'] / seconds:,.0f} tokens/s with start and loading"


def peer_ready(kit):
    """sentence-transformers loads while the first steps run; here it says what it is, and the peak that torch reaches."""
    tflops = kit.ask(peak=8192 if kit.args.scale > 0.1 else 64)["tflops"]
    ready = {key: value for key, value in kit.peer.ready.items() if key not in ("ready", "model")}
    return f"torch's bf16 product of 8192 x 8192: {tflops:.1f} TFLOP/s; {ready}"


def speed(name, lengths):
    def run(kit):
        model, longest, figures, rates = kit.bert_base(), max(lengths), [], {}
        few, _ = kit.corpus("few", [longest], 1)
        # The first run detects the GPU, and fills the file cache.
        kit.embed(few, "few", model, kit.formats[0], longest)
        for dtype in kit.formats:
            corpus, rows = kit.corpus(name, lengths, TOKENS[dtype])
            _, idle = kit.embed(few, "few", model, dtype, longest)
            busy = bench_gpu.Busy(kit.device) if shutil.which("nvidia-smi") and kit.device != "cpu" else None
            try:
                summary, seconds = kit.embed(corpus, f"speed-{dtype}", model, dtype, longest)
            finally:
                percent = busy.percent() if busy else 0.0
            rates[dtype] = bench_gpu.rate_without_start(summary["tokens"], seconds, idle)
            operations = bench_gpu.operations_per_token(model)(summary["tokens"] / rows)
            share = f", {rates[dtype] * operations / (kit.peak * 1e12):.0%} of the peak" if kit.peak and dtype != "f32" else ""
            figures.append(f"{dtype} {rates[dtype]:,.0f}")
            kit.say(f"{name} {dtype}: {summary['tokens']} tokens, {rates[dtype]:,.0f} tokens/s, with start and loading "
                    f"{summary['tokens'] / seconds:,.0f} ({seconds:.2f} s, {idle:.2f} s of it idle){share}, card busy {percent:.0f} %")
            if dtype == kit.formats[0]:
                figures[-1] += f"{share}, busy {percent:.0f} %"
        try:
            figures.append(against_peer(kit, name, lengths, rates[kit.formats[0]]))
        except (Skip, bench_gpu.Failed, TimeoutError) as error:
            figures.append(f"no peer: {error}")
        return "tokens/s " + "; ".join(figures)
    return run


def against_peer(kit, name, lengths, rate):
    corpus, rows = kit.corpus(name, lengths, TOKENS[kit.formats[0]])
    rows, told = min(rows, int(PEER_TOKENS * kit.args.scale * len(lengths) / sum(lengths)) + 1), []
    request = {"encode": str(corpus), "rows": rows, "max_length": max(lengths), "batches": bench_gpu.BATCHES}
    for attention, label in (("sdpa", "SDPA"), ("flash_attention_2", "FlashAttention 2")):
        try:
            theirs = kit.ask(**request, attention=attention)
        except bench_gpu.Failed as error:
            kit.say(f"{label}: {error}")
            told.append(f"no {label}")
            continue
        peers = theirs["tokens"] / theirs["seconds"]
        told.append(f"sentence-transformers fp16 {label} {peers:,.0f} (batch {theirs['batch']}), ratio {rate / peers:.2f}")
    compared = min(bench_gpu.COMPARED, rows)
    kit.ask(reference=str(corpus), rows=compared, max_length=max(lengths), out=str(kit.work / "peer.npy"))
    ours = bench_gpu.first_vectors(kit.work / f"speed-{kit.formats[0]}", compared)
    return "; ".join([*told, f"least cosine {bench_gpu.least_cosine(np.load(kit.work / 'peer.npy'), ours):.6f}"])


def large_batches(kit):
    corpus, _ = kit.corpus("memory", [50], 2_000_000)
    few, _ = kit.corpus("few", [50], 1)
    kit.embed(few, "few", kit.bert_base(), kit.formats[0], 50)
    summary, seconds = kit.embed(corpus, "memory", kit.bert_base(), kit.formats[0], 50, ["--batch-tokens", "4000000000"])
    return f"--batch-tokens 4000000000: {summary['tokens']} tokens in {seconds:.1f} s"


def scarce_memory(left_mib):
    def run(kit):
        if kit.device == "cpu":
            raise Skip("for the memory of GPUs")
        corpus, _ = kit.corpus("memory", [50], 2_000_000)
        few, _ = kit.corpus("few", [50], 1)
        kit.embed(few, "few", kit.bert_base(), kit.formats[0], 50)
        free = kit.ask(hold_all_but=left_mib << 20)["free"]
        try:
            summary, seconds = kit.embed(corpus, "memory", kit.bert_base(), kit.formats[0], 50)
            return f"{free >> 20} MiB free: {summary['tokens']} tokens in {seconds:.1f} s"
        except bench_gpu.Failed as error:
            # One sentence is expected, not a panic or a signal.
            if "ended with 1:" not in str(error) and "ended with 4:" not in str(error):
                raise
            return f"{free >> 20} MiB free: {error}"
        finally:
            kit.ask(hold_all_but=0)
    return run


def sanitizer(which):
    def run(kit):
        words = [kit.encaje, "self-test", "--quick", "--device", kit.device]
        try:
            sanitizer = tool("compute-sanitizer")
        except Skip:
            # Without a GPU, the steps end here.
            kit.call(*words)
            raise
        only = [part for name in OWN_KERNELS for part in ("--kernel-name", f"kns={name}")]
        stdout, stderr = kit.call(sanitizer, "--tool", which, "--error-exitcode", "9", "--require-cuda-init", "no",
                                  *(only if which == "racecheck" else []), *words, codes=(0, 9))
        summary = next((line.strip("= ") for line in (stdout + stderr).splitlines() if "SUMMARY" in line), "no summary")
        if ": 0 " not in summary:
            raise bench_gpu.Failed(summary)
        return summary
    return run


def profile(kernels, count):
    def run(kit):
        few, _ = kit.corpus("few", [512], 1)
        command = bench_gpu.run_command(kit.encaje, few, kit.work / "profile", kit.bert_base(), kit.device, kit.formats[0], 512)
        try:
            ncu = tool("ncu")
        except Skip:
            kit.call(*command)
            raise
        shutil.rmtree(kit.work / "profile", ignore_errors=True)
        # Loading a model runs a full batch of its longest texts, whose launches come first.
        sections = [part for name in ("SpeedOfLight", "MemoryWorkloadAnalysis", "ComputeWorkloadAnalysis", "Occupancy", "LaunchStats",
                                      "SchedulerStats", "WarpStateStats") for part in ("--section", name)]
        stdout, stderr = kit.call(ncu, "--clock-control", "none", "--kernel-name", f"regex:{kernels}", "--launch-count", count,
                                  *sections, *command)
        wanted = ("Duration", "Compute (SM) Throughput", "Memory Throughput", "Achieved Occupancy")
        lines = [line.split("(")[0].strip() + ":" if ", Context " in line else " ".join(line.split())
                 for line in (stdout + stderr).splitlines() if ", Context " in line or line.strip().startswith(wanted)]
        if not lines:
            raise bench_gpu.Failed("ncu measured nothing")
        return " ".join(lines)
    return run


def steps(kit):
    kit.step("facts", "facts.txt", 20, facts)
    # It loads while the next steps run.
    kit.peer = bench_gpu.Peer(sys.executable, kit.bert_base(), kit.device)
    kit.step("self-test", "self-test.txt", 110, self_test)
    for dtype in kit.formats:
        kit.step(f"448 sentences, {dtype}", "vectors.txt", 30, vectors(dtype))
    kit.step("3,000 texts of 512 tokens", "vectors.txt", 40, notebook)
    kit.step("peak", "speed.txt", 40, peer_ready)
    for name in ("512", "50"):
        kit.step(f"speed, {name} tokens", "speed.txt", 60, speed(name, bench_gpu.LENGTHS[name]))
    kit.step("memcheck", "sanitizer.txt", 60, sanitizer("memcheck"))
    for name in ("mixed", "128", "32"):
        kit.step(f"speed, {name} tokens", "speed.txt", 60, speed(name, bench_gpu.LENGTHS[name]))
    kit.step("huge batches", "memory.txt", 20, large_batches)
    kit.step("memory, 2 GiB left", "memory.txt", 25, scarce_memory(2048))
    kit.step("memory, 200 MiB left", "memory.txt", 25, scarce_memory(200))
    kit.step("racecheck", "sanitizer.txt", 60, sanitizer("racecheck"))
    kit.step("ncu, attention", "profile.txt", 40, profile("^flash_", 1))
    kit.step("ncu, products", "profile.txt", 60, profile("gemm|nvjet|cutlass|xmma", 4))


def interrupted(number, _):
    raise TimeoutError("no answer in the step's time") if number == signal.SIGALRM else SystemExit(f"stopped by signal {number}")


def main():
    os.environ["PATH"] += ":/usr/local/nvidia/bin"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=460, help="the time for all steps together")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of rows that are computed; below 0.1 also a small model")
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, interrupted)
    kit = Kit(args)
    try:
        steps(kit)
    finally:
        kit.write_table()
        print((kit.out / "table.txt").read_text(), flush=True)
        kit.close()
    sys.exit(any(state == "failed" for _, state, *_ in kit.rows))


if __name__ == "__main__":
    main()
