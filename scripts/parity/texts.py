"""Texts on which tokenizers and forward passes are known to differ."""

import unicodedata

PLAIN = [
    "hola mundo",
    "Hola Mundo ÁRBOL Niño",
    "El niño pequeño soñó con un pingüino que comía piñas en la montaña.",
    "uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis",
]

SPECIAL = [
    "usa <url> aquí",
    "antes [SEP] después [MASK] fin",
    "antes </s> después  <mask>  fin",
    "[CLS]pegado[SEP]",
    "<s>pegado</s><pad><unk>",
    "[sep] [mask] <S> </S> <MASK>",
    "x[PAD]y [UNK] [unused1] <|endoftext|>",
    "añadido NUEVO nuevo Nuevo novísimo",
]

ODD = [
    "a",
    ".",
    "😀",
    "👩‍👩‍👧‍👦 familia con ZWJ 👍🏽 y bandera 🇲🇽",
    unicodedata.normalize("NFC", "camión pingüino mañana"),
    unicodedata.normalize("NFD", "camión pingüino mañana"),
    "日本語 mezclado con español 中文字符 y русский текст",
    "مرحبا بالعالم עברית",
    "control\x01\x07 \u200b ancho cero \u00ad guion \ufeff marca \u202eatrás",
    "nulo\x00dentro",
    "línea uno\r\nlínea dos\n\n\tlínea tres",
    " espacios   al  principio y al final  ",
    "no\u00a0separable\u2003espacio\u3000ancho\u2028línea",
    "ﬁ ﬂ ½ x² ① Ⅷ ㎏ ﷺ İstanbul ßẞ Σίσυφος ΣΑΣ",
    "palabra" * 40,
    "x" * 300,
    "palabra " * 90,
    "\u0301\u0301 acentos sueltos \u0303",
    "@maria mira: https://ejemplo.mx/nota?id=42&x=%20#noticias",
    "don't it's we'll I'm you've he'd ' 's",
    "1234567890 3.14159 1/2 10€ $50 100% 1e-5 −3",
    "«comillas» “curvas” ‘simples’ — raya – guion… puntos",
    "\ud7ff\ue000\uffff\U0010ffff",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 हिन्दी தமிழ் 한국어 조선",
]

# Empty, or empty after normalisation: Encaje rejects rows with only special tokens.
EMPTY = ["", " ", "\n\t", "\u200b", "\x01"]

WORDS = "el la de que y en un perro gato casa niño año mañana canción tacos salsa verde ¡hola! ¿qué? 25.50 #tag 😀 Ñandú".split()


def around(length):
    """Returns texts of about `length` words, increasing by one, whose tokens end shortly before and after a limit."""
    return [" ".join(["de"] * count) for count in range(max(1, length - 4), length + 3)]


def draw(rng, count):
    """A selection for one combination: some of each kind, and random mixtures."""
    chosen = PLAIN[:2] + rng.sample(PLAIN[2:], 1) + rng.sample(SPECIAL, 4) + rng.sample(ODD, min(count, len(ODD)))
    chosen += rng.sample(EMPTY, 1) + rng.sample(around(62), 2) + rng.sample(around(46), 1) + rng.sample(around(9), 1)
    for _ in range(3):
        words = [rng.choice(WORDS + SPECIAL[:2] + ODD[:4]) for _ in range(rng.randrange(3, 30))]
        chosen.append(rng.choice(["", " ", "\n"]).join([""] + words) if rng.random() < 0.2 else " ".join(words))
    # Long enough for Encaje to shorten it before tokenization, at a position that depends on the text.
    stretch = rng.choice(["", " ", ", "]).join(rng.choice(WORDS + SPECIAL + ODD) for _ in range(rng.randrange(2, 12)))
    chosen.append(stretch * (9000 // len(stretch) + 1))
    return list(dict.fromkeys(chosen))


def everything():
    return PLAIN + SPECIAL + ODD + EMPTY + around(62) + around(46) + around(9)
