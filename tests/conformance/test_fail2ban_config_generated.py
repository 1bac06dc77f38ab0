"""Generated configurations in layers, each read by fail2ban and here: where fail2ban reads it, both must agree."""

from __future__ import annotations

import random
from pathlib import Path

from fail2ban_oracle import compare, copy_of_stock, read_with_fail2ban, records

from tocsin.fail2ban.settings.loader import load

CASES = 120
VARIABLES = ("ux", "vx", "wx", "mode", "kind")
JAIL_FILES = ("jail.conf", "jail.d/1.conf", "jail.local", "jail.d/2.local")
FILTER_FILES = ("filter.d/own.conf", "filter.d/own.d/1.conf", "filter.d/own.local", "filter.d/base.conf")
ACTION_FILES = ("action.d/act.conf", "action.d/act.local")


def reference(rng: random.Random, names: tuple[str, ...]) -> str:
    """A piece of a value: a word, or one of the ways to refer to another."""
    if not names or rng.random() < 0.4:
        return rng.choice(("word", "x%%y", "<HOST>", "w-1", "%(__name__)s", "<unknown>"))
    name, second = rng.choice(names), rng.choice(names)
    return rng.choice(
        (
            *(f"%({name})s", f"<{name}>", f"<{name}>", f"%(known/{name})s", f"<known/{name}>"),
            *(f"%(default/{name})s", f"%(other/{name})s", f"<other/{name}>"),
            *(f"<{name}-<{second}>>", f"<{name}_<mode>/{second}>"),
        )
    )


def value(rng: random.Random, names: tuple[str, ...]) -> str:
    """One line or two that refer to some of `names`."""
    pieces = [[reference(rng, names) for _ in range(rng.randint(1, 2))] for _ in range(rng.choice((1, 1, 1, 2)))]
    return "\n  ".join(" ".join(line) for line in pieces) + rng.choice(("", "", "", "", " ; said"))


def section(rng: random.Random, head: str, names: tuple[str, ...]) -> str:
    """Options in any order. Most refer only to variables that come later in the alphabet, for circles are refused."""
    chosen = rng.sample(names, rng.randint(0, len(names)))
    equals = rng.choice((" = ", "=", ": "))
    lines = [f"[{head}]\n"]
    for name in chosen:
        later = VARIABLES[VARIABLES.index(name) + 1 :] if name in VARIABLES else VARIABLES
        own = (*later, name) if rng.random() < 0.05 else later
        lines.append(f"{name}{equals}{value(rng, own)}\n")
    return "".join(lines)


def configuration(rng: random.Random) -> dict[str, str]:
    """Files of a whole configuration. Values refer to one another at random, so many of them are refused."""
    filter_names = ("failregex", "ignoreregex", "datepattern", "prefregex", *VARIABLES, "ux-word", "vx-word")
    action_names = ("actionban", "actionstart", "actionunban", *VARIABLES, "ux-word")
    jail_names = ("ignoreip", "ignorecommand", "failregex", "ignoreregex", *VARIABLES)
    files = {name: "" for name in (*JAIL_FILES, *FILTER_FILES, *ACTION_FILES) if rng.random() < 0.7}
    for name in files:
        if name in JAIL_FILES:
            files[name] = section(rng, "DEFAULT", VARIABLES) + section(rng, "own", jail_names)
            files[name] += section(rng, "other", VARIABLES) if rng.random() < 0.4 else ""
        elif name in FILTER_FILES:
            included = "[INCLUDES]\nbefore = base.conf\n" if rng.random() < 0.3 else ""
            files[name] = included + section(rng, "Definition", filter_names) + section(rng, "DEFAULT", VARIABLES)
            files[name] += section(rng, "Init", VARIABLES) if rng.random() < 0.5 else ""
            files[name] += section(rng, rng.choice(("other", "ux_word", "Init?x=y")), VARIABLES)
        else:
            files[name] = section(rng, "Definition", action_names) + section(rng, "Init", VARIABLES)
            files[name] += section(rng, "Init?family=inet6", VARIABLES[:3])
    given = ", ".join(f"{name}={rng.choice(('1', '<ux>', '<known/vx>', 'word'))}" for name in rng.sample(VARIABLES, 2))
    files["jail.conf"] = files.get("jail.conf", "") + ("[INCLUDES]\nbefore = jail-base.conf\n")
    files["jail-base.conf"] = (
        f"[own]\nenabled = true\nfilter = own[{given}]\naction = act[{given}] act[name=n]\nlogpath = /none\n[other]\n"
    )
    words = "".join(f"{name} = {name}-word\n" for name in VARIABLES)
    for name, base in (("filter.d/own", "base"), ("action.d/act", "base"), ("jail", "words")):
        files[f"{name}.d/0.conf"] = f"[INCLUDES]\nbefore = ../{base}-words.conf\n[other]\n{words}[Definition]\n"
    for name in ("filter.d/base-words.conf", "action.d/base-words.conf", "words-words.conf"):
        files[name] = f"[DEFAULT]\n{words}"
    return files


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_generated_configurations_are_read_as_fail2ban_reads_them(tmp_path: Path) -> None:
    rng = random.Random(20260822)
    directories = [write(tmp_path / str(number), configuration(rng)) for number in range(CASES)]
    agreed = 0
    wrong: list[str] = []
    for directory, theirs in zip(directories, read_with_fail2ban(directories), strict=True):
        loaded = load(directory)
        if "refused" in theirs or not theirs["jails"]:
            continue
        _, differences = compare(records(theirs["commands"], theirs["jails"]), loaded.jails)
        wrong += [f"{directory.name}: {difference}" for difference in differences]
        agreed += not differences
    print(f"{agreed} configurations that fail2ban reads were read alike, of {CASES} generated")
    assert not wrong, "\n".join(wrong[:10])
    assert agreed > CASES // 5


def test_damaged_stock_files_are_read_or_remarked(tmp_path: Path) -> None:
    rng = random.Random(20260823)
    directory = copy_of_stock(tmp_path, "[DEFAULT]\nenabled = true\n")
    files = [directory / "jail.conf", directory / "filter.d/common.conf", *sorted(directory.glob("*.d/*.conf"))]
    left_out = 0
    for number in range(80):
        path = files[number % 2 and rng.randrange(len(files))]
        whole = path.read_bytes()
        path.write_bytes(damaged(rng, whole))
        loaded = load(directory)
        path.write_bytes(whole)
        errors = [remark for remark in loaded.remarks if remark.severity == "error"]
        left_out += bool(errors)
        assert errors or len(loaded.jails) >= 80
        for remark in loaded.remarks:
            assert remark.file == "" or Path(remark.file).is_file()
            assert remark.text.isprintable()
    assert left_out > 10
    assert load(directory).remarks == ()


def damaged(rng: random.Random, text: bytes) -> bytes:
    """A few bytes and lines changed, moved or gone."""
    lines = text.split(b"\n")
    for _ in range(rng.randint(1, 6)):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        line = lines[at]
        cut = rng.randrange(len(line) + 1)
        lines[at] = rng.choice(
            (
                *(b"", lines[other], line[:cut], line[cut:], b" " + line, line.lstrip(), line.replace(b"=", b"", 1)),
                *(
                    line.replace(b"%(", b"%", 1),
                    line.replace(b">", b"", 1),
                    line[:cut] + b"\xff\x00\x1b[2J" + line[cut:],
                ),
                *(b"%" + line, line + b"<" + line, b"[" + line + b"]", line.upper(), line * 3),
            )
        )
    return b"\n".join(lines)
