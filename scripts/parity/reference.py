"""The results of transformers and sentence-transformers for a model folder: ids and vector of each text."""

import contextlib
import io
import logging
import os
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer  # noqa: E402

torch.set_num_threads(1)
logging.disable(logging.CRITICAL)
transformers.logging.set_verbosity(transformers.logging.CRITICAL)
transformers.logging.disable_progress_bar()

SECONDS_MAX = 120


@dataclass
class Answer:
    """`refused` is why the reference does not load the folder; otherwise a list with an entry per text, whose entries are
    None where the reference fails on that text."""

    refused: str = ""
    ids: list = None
    vectors: list = None
    truncated: list = None
    positions: int = None
    by: str = ""


class TooSlow(Exception):
    pass


@contextlib.contextmanager
def quiet():
    def late(*_):
        raise TooSlow(f"no answer within {SECONDS_MAX} s")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS_MAX)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()), torch.inference_mode():
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def answer(folder, texts, options, with_vectors):
    """Uses sentence-transformers if the folder has `modules.json`, else transformers with the CLS vector."""
    path = Path(folder)
    ask = sentence if (path / "modules.json").exists() else plain
    try:
        with quiet():
            given = ask(path, texts, options, with_vectors)
            without_positions(given)
            if given.vectors and all(vector is None for vector in given.vectors):
                given = Answer(refused="the forward pass fails on every text")
    except Exception as error:  # noqa: BLE001: whatever it raises is its way to refuse
        given = Answer(refused=f"{type(error).__name__}: {str(error)[:300]}")
    given.by = "sentence-transformers" if ask is sentence else "transformers"
    return given


def without_positions(given):
    """Removes texts with more tokens than the model has positions, on which the forward pass fails, even if no vectors are
    requested."""
    for row, ids in enumerate(given.ids):
        if ids is not None and given.positions and len(ids) > given.positions:
            given.ids[row] = given.truncated[row] = None
            if given.vectors:
                given.vectors[row] = None


def each(texts, function):
    """Calls a function for each text; None where it raises."""
    def one(text):
        try:
            return function(text)
        except TooSlow:
            raise
        except Exception:  # noqa: BLE001
            return None

    return [one(text) for text in texts]


def positions(config):
    """Returns the number of positions of the model, or None."""
    length = getattr(config, "max_position_embeddings", None)
    if length and config.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm"):
        return length - config.pad_token_id - 1
    if length and config.model_type == "mpnet":
        # Its padding index is a constant of the modeling code.
        return length - 2
    return length


def plain(path, texts, options, with_vectors):
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    # An explicit `max_length` overrides the one of the tokenizer, as in its own call.
    limits = [options.get("max_length") or tokenizer.model_max_length, positions(config)]
    limit = min(length for length in limits if length)
    long = {"truncation": True, "max_length": int(limit)} if limit < 1e9 else {}
    prefix = options.get("prefix", "")
    encoded = each(texts, lambda text: tokenizer(prefix + text, **long))
    given = Answer(ids=[row and list(row["input_ids"]) for row in encoded], positions=positions(config))
    given.truncated = each(texts, lambda text: len(tokenizer(prefix + text, truncation=False)["input_ids"]) > limit)
    if with_vectors:
        model = load(path)
        def one(row):
            # As in a batch of this one text: without padding, with the tokenizer's token types.
            inputs = {name: torch.tensor([row[name]]) for name in row if name in tokenizer.model_input_names}
            states = model(**inputs, return_dict=True).last_hidden_state[0]
            return shaped(pooled(states, options.get("pooling", "cls")), options)
        given.vectors = each(encoded, one)
    return given


def load(path):
    # As sentence-transformers: of a model with a decoder the encoder alone.
    t5 = AutoConfig.from_pretrained(path, trust_remote_code=False).model_type in ("t5", "mt5", "umt5")
    auto = AutoModelForTextEncoding if t5 else AutoModel
    model, report = auto.from_pretrained(path, output_loading_info=True, trust_remote_code=False, dtype=torch.float32)
    missing = [name for name in report["missing_keys"] if "pooler" not in name and "position_ids" not in name]
    if missing:
        # transformers only warns, and initialises these randomly: there are no vectors to compare with.
        raise ValueError(f"weights are missing, drawn at random: {sorted(missing)[:3]}")
    return model.eval()


def pooled(states, pooling):
    return {
        "cls": lambda: states[0], "mean": lambda: states.mean(0), "max": lambda: states.max(0).values,
        "last": lambda: states[-1],
    }[pooling]()


def shaped(vector, options):
    vector = vector[: options.get("dimensions")].double().numpy()
    if options.get("no_normalize"):
        return vector
    norm = np.linalg.norm(vector)
    return vector / norm if norm else vector


def sentence(path, texts, options, with_vectors):
    model = SentenceTransformer(str(path), device="cpu", trust_remote_code=False, model_kwargs={"dtype": torch.float32})
    transformer = model[0]
    limit_of_positions = positions(getattr(transformer, "config", None))
    missing = drawn_at_random(path, transformer)
    if missing:
        raise ValueError(f"weights are missing, drawn at random: {sorted(missing)[:3]}")
    if options.get("max_length"):
        # The command's length overrides the model's own, up to the number of positions.
        model.max_seq_length = min(options["max_length"], limit_of_positions or options["max_length"])
    if options.get("pooling"):
        model[1].pooling_mode = {"last": "lasttoken"}.get(options["pooling"], options["pooling"])
    prompt = prompt_of(model, options)
    given = Answer(ids=each(texts, lambda text: unpadded(model.preprocess([prompt + text]))), positions=limit_of_positions)
    limit = model.max_seq_length or 10**9
    given.truncated = each(texts, lambda text: len(model.tokenizer(prompt + text, truncation=False)["input_ids"]) > limit)
    if getattr(transformer, "processing_kwargs", None):
        # These may have their own length.
        given.truncated = [None] * len(texts)
    if with_vectors:
        def one(text):
            more = {"truncate_dim": options["dimensions"]} if "dimensions" in options else {}
            return model.encode(
                [text], prompt=prompt, normalize_embeddings=not options.get("no_normalize"), show_progress_bar=False, **more
            )[0].astype(np.float64)
        given.vectors = each(texts, one)
    return given


def unpadded(features):
    """Returns the ids of one text inside the attention mask, which StaticEmbedding does not have."""
    if "attention_mask" not in features:
        return features["input_ids"].tolist()
    ids, mask = features["input_ids"][0].tolist(), features["attention_mask"][0].tolist()
    return [token for token, seen in zip(ids, mask) if seen]


def prompt_of(model, options):
    if "prefix" in options:
        return options["prefix"]
    name = options.get("prompt", model.default_prompt_name)
    # An empty prompt of the command means none; an unknown name is refused.
    return model.prompts[name] if name else ""


def drawn_at_random(path, transformer):
    """Names of parameters that the weights lack. sentence-transformers loads with a warning only, as transformers does."""
    inner = getattr(transformer, "auto_model", None) or getattr(transformer, "model", None)
    directory = path / "0_Transformer" if (path / "0_Transformer").is_dir() else path
    if inner is None or type(inner).__module__.split(".")[0] != "transformers":
        return []
    try:
        _, report = type(inner).from_pretrained(directory, config=inner.config, output_loading_info=True)
    except Exception:  # noqa: BLE001: then the first load said so already
        return []
    return [name for name in report["missing_keys"] if "pooler" not in name and "position_ids" not in name]
