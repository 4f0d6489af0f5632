#!/usr/bin/env python3
"""Reference token ids by Hugging Face's `tokenizers`.

    tokenizer.py --model FILE.gguf --lines N --seed S --out DIR

assembles the tokenizer of a GGUF file (byte-level BPE) from its
vocabulary and merges and writes into DIR: lines.jsonl (N lines of mixed text, one JSON string a
line), ids.jsonl and ids-no-special.jsonl (the reference's {"ids":[...]} of each line, control tokens
recognised or not), vocabulary.json (what tokenizer-probe reads) and tokenizer.json. Without --model
a small vocabulary is trained on the lines (--pre names its pre-tokenizer).
"""
import argparse
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CONTROL, USER_DEFINED = 3, 4

WORDS = (
    "the of and model kernel don't I'm you're they've he'll she'd it's 'tis rock'n'roll O'Neil "
    "'s 't 're 've 'm 'll 'd 'S 'RE ' '' ''s x's '\u2019s don\u2019t matrix naïve café Straße "
    "façade ﬁne Œuvre İstanbul ıssız ǅungla þing Ångström ﬀ e\u0301te\u0301 a\u0308\u0323 "
    "привет мир Ёлка съел объект Київ їжак србија ђак "
    "γειά σου Κόσμε ὀδύσσεια ΣΊΣΥΦΟΣ άλφα "
    "مرحبا بالعالم السَّلامُ عليكم فارسی‌ها ۱۲۳ ٤٥٦ ـــ لا "
    "שלום עולם שָׁלוֹם ״ציטוט״ "
    "नमस्ते दुनिया क्षत्रिय हिन्दी १२३४ ॐ ।। "
    "สวัสดีชาวโลก ภาษาไทย ๑๒๓ กำลัง ฯลฯ "
    "你好 世界 語言模型 编译器 〇一二三 ㈠ ㊣ 𠀀𠮷 "
    "안녕하세요 세계 한국어 ㄱㄴㄷ 각 "
    "こんにちは 世界 カタカナ ｶﾀｶﾅ がぎ か\u3099 ー々 "
    "Tiếng Việt xin chào yo\u0328 ქართული հայերեն አማርኛ ខ្មែរ မြန်မာ ລາວ தமிழ் తెలుగు ᏣᎳᎩ ᠮᠣᠩᠭᠣᠯ 𐍈𐌰 𞤀𞤁"
).split(" ")

EMOJI = (
    "😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 ❤️ 1️⃣ #️⃣ 🇫🇷🇯🇵 👨🏿‍💻 ☺ ☺️ 🧑‍🚀 🫠 🪿 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ✈︎ ⌚ ♾️ 🤷🏻‍♀️"
).split(" ")

CODE = (
    "for (int i = 0; i < n; ++i) {|\treturn a[i]*b[i] + c;|}|if x == 'y':|    print(f\"{x!r:>10}\")|"
    "#include <vector>|std::vector<float>&&|SELECT * FROM t WHERE id=1;|// comment|/* */|x->y.z();|"
    "a+=b--;|!@#$%^&*()_+{}:\"<>?~`-=[]\\;',./|0x1F 1e-5 3.14f 1_000|\\n\\t\\u0041|<div class=\"a\">|"
    "lambda: None|$HOME/bin|https://example.org/?a=1&b=2#c|user@example.com|λx.x|∀x∈ℝ: x²≥0|"
    "→ ← ≠ ≤ ∑ ∫ √|€100 £5 ¥|½ ⅓ Ⅳ ⅻ ① ⑳ ² ³ ₁|«»„“”‘’…—–‐|[[ ]]|{{ }} {% %}|\r\n|\n\n\n|\t\t|..."
).split("|")

NUMBERS = (
    "0 7 42 007 1234567890 3.14159 1,000,000 -5 +3 2024-01-31 12:34:56 ٣٤٥ ۶۷۸ ९८७ ๙๘ ０１２ 𝟘𝟙𝟚 "
    "½¾⅞ ⅠⅡⅢ ⅿ ①②③ ²³¹ ₀₁ 〇 〡〢 ㊿ 𒐀 ᛮ 𑇡 𞅀 1a2b3c 5x 9's 10th"
).split(" ")

SPACES = [
    " ", " ", " ", "  ", "   ", "        ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", "\v", "\f",
    "\u00a0", " \u00a0", "\u00a0 ", "\u1680", "\u2000", "\u2009", "\u200a", "\u2028", "\u2029",
    "\u202f", "\u205f", "\u3000", "\u3000\u3000", "\u0085", " \n", "\n ", " \t ", "\u200b", "\ufeff",
    "\u180e", "\u2060", "\x1c", "\x1f", "",
]  # fmt: skip

MARKS = ["\u0301", "\u0300\u0323", "\u0e31", "\u094d", "\u05b0", "\u064e", "\u20dd", "\ufe0f", "\u200d"]

RARE = [
    "\x00", "\x01", "\x04", "\x06", "\x13", "\x7f", "\x80", "\x9f", "\u00ad", "\u0600", "\u061c",
    "\ue000", "\uf8ff", "\ufdd0", "\ufffd", "\ufffe", "\uffff", "\U0001ffff", "\U000e0001",
    "\U000f0000", "\U0010ffff", "\u0378", "\U00011de0", "\U00016ff4", "\U0001c000",
]  # fmt: skip


# As the tokenizer.json of each family's models has them.
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACE_AT_END = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def cased(suffix, digits):
    start = r"[^\r\n\p{L}\p{N}]?"
    return (
        f"{start}{UPPER}*{LOWER}+{suffix}|{start}{UPPER}+{LOWER}*{suffix}|{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACE_AT_END
    )


def uncased(digits):
    return (
        CONTRACTIONS
        + r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
        + SPACE_AT_END
    )


EXPRESSIONS = {
    "llama3": [uncased(r"\p{N}{1,3}")],
    "qwen2": [uncased(r"\p{N}")],
    "gpt4o": [cased(CONTRACTIONS + "?", r"\p{N}{1,3}")],
    "tekken": [cased("", r"\p{N}")],
    "deepseek": [
        r"\p{N}{1,3}",
        "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"""| ?[\p{P}\p{S}]+[\r\n]*""" + SPACE_AT_END,
    ],
}
IGNORE_MERGES = ("llama3", "tekken")
COMPOSED = ("qwen2",)


def random_code_point(rng):
    limit = rng.choice((0x80, 0x250, 0x3000, 0x10000, 0x20000, 0x110000))
    while True:
        c = rng.randrange(limit)
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def make_line(rng, control):
    """One line of mixed text: a few dozen fragments of one mood or of all."""
    kinds = [
        lambda: rng.choice(WORDS),
        lambda: rng.choice(WORDS) + rng.choice(MARKS),
        lambda: rng.choice(EMOJI),
        lambda: rng.choice(CODE),
        lambda: rng.choice(NUMBERS),
        lambda: str(rng.randrange(10 ** rng.randrange(1, 12))),
        lambda: "".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 5))),
        lambda: "".join(random_code_point(rng) for _ in range(rng.randrange(1, 6))),
        lambda: rng.choice(RARE),
        lambda: rng.choice(WORDS)[: rng.randrange(1, 4)] * rng.randrange(1, 30),
    ]
    if control:
        token = lambda: rng.choice(control)
        kinds += [token, lambda: token()[: rng.randrange(1, 8)], lambda: " " + token() + " "]
    mood = rng.choices(kinds, k=rng.randrange(1, 4)) if rng.random() < 0.5 else kinds
    parts = []
    for _ in range(rng.randrange(1, 24)):
        parts.append(rng.choice(mood)())
        parts.append(rng.choice(SPACES) if rng.random() < 0.7 else "")
    return "".join(parts)


def make_lines(count, seed, control):
    rng = random.Random(seed)
    fixed = ["", " ", "  ", "\n", "a", " a", "  a", "a ", "a  ", "1", " 1", "  1", "1 ", "12 34", "a1b"]
    fixed += ["a" * 5000, " " * 3000 + "x", "ab" * 4000, "\n" * 1000, "9" * 1000, "é" * 2000, "👍🏽" * 500]
    fixed += control + ["".join(control), " ".join(control)]
    return (fixed + [make_line(rng, control) for _ in range(count)])[:count]


def pre_tokenizer(name):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name in ("gpt2", "gpt-2"):
        return byte_level
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if name in EXPRESSIONS:
        steps = [pre_tokenizers.Split(Regex(text), "isolated") for text in EXPRESSIONS[name]]
        return pre_tokenizers.Sequence(
            [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    raise SystemExit(f"tokenizer.py: pre-tokenizer {name} is not supported")


def read_gguf(path):
    import gguf

    fields = gguf.GGUFReader(path).fields
    value = lambda key: fields["tokenizer.ggml." + key].contents()
    return {key: value(name) for key, name in
            (("pre", "pre"), ("tokens", "tokens"), ("types", "token_type"), ("merges", "merges"))}  # fmt: skip


def train(pre, seed):
    """A small vocabulary with control and user defined tokens, some of them one inside another."""
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im|>", "<|", "[INST]"]
    user = ["<tool>", "  ", "<|im_start|>user", "im_end", "ação", "[I"]
    # Where whole pieces are looked up, control tokens are no part of the model, as in these families'
    # files: else the reference would make them of ordinary text.
    apart = pre in IGNORE_MERGES
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer(pre)
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        show_progress=False,
        special_tokens=[] if apart else control,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(make_lines(3000, seed + 1, []), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    types = [CONTROL if t in control else 1 for t in tokens]
    if apart:
        tokens, types = tokens + control, types + [CONTROL] * len(control)
    return {
        "pre": pre,
        "tokens": tokens + user,
        "types": types + [USER_DEFINED] * len(user),
        "merges": merges,
    }


def assemble(vocabulary):
    """The reference tokenizer of a vocabulary."""
    tokens, types = vocabulary["tokens"], vocabulary["types"]
    merges = [tuple(merge.split(" ")) for merge in vocabulary["merges"]]
    whole = vocabulary["pre"] in IGNORE_MERGES
    outside = (USER_DEFINED, CONTROL) if whole else (USER_DEFINED,)
    in_model = {t: i for i, t in enumerate(tokens) if types[i] not in outside}
    tokenizer = Tokenizer(models.BPE(vocab=in_model, merges=merges, ignore_merges=whole))
    tokenizer.pre_tokenizer = pre_tokenizer(vocabulary["pre"])
    if vocabulary["pre"] in COMPOSED:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    for i, text in enumerate(tokens):  # in order of ids: new texts get the ids that they had
        if types[i] == CONTROL:
            tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False)])
        elif types[i] == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(text, special=False, normalized=False)])
            if tokenizer.token_to_id(text) != i:
                raise SystemExit("tokenizer.py: a user defined token got another id")
    return tokenizer


def write_golden(directory, vocabulary, count, seed):
    """Writes the files that the module's description lists; returns the lines."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    added = [t for t, kind in zip(vocabulary["tokens"], vocabulary["types"]) if kind in (CONTROL, USER_DEFINED)]
    lines = make_lines(count, seed, added)
    tokenizer = assemble(vocabulary)

    def write(name, rows):
        with open(directory / name, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row) + "\n")

    write("lines.jsonl", lines)
    for name, plain in (("ids.jsonl", False), ("ids-no-special.jsonl", True)):
        tokenizer.encode_special_tokens = plain
        encoded = tokenizer.encode_batch(lines, add_special_tokens=False)
        write(name, ({"ids": e.ids} for e in encoded))
    tokenizer.encode_special_tokens = False
    (directory / "vocabulary.json").write_text(json.dumps(vocabulary))
    tokenizer.save(str(directory / "tokenizer.json"))
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--pre", default="smollm")
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    vocabulary = read_gguf(options.model) if options.model else train(options.pre, options.seed)
    write_golden(options.out, vocabulary, options.lines, options.seed)


if __name__ == "__main__":
    main()
