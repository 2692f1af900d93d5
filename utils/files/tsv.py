"""Read the rows of a corpus's TSV file, and say in its user's words what is wrong with one.

Rows are as Python's csv writes them with tabs and QUOTE_MINIMAL; lines end in LF or CRLF. A text written so reads
back equal, but for three kinds: of a text that ends in a lone CR, left unquoted before LF, the CR counts to the line
end; a text without anything to be seen counts as empty; a text with a line in it that looks like a row
(REGISTER<tab>…) is refused, because a quote left open by mistake looks the same, and would take rows away unseen.
"""

import csv
import errno
import io
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from utils.runs import RunError

UNUSED = "unused"  # the label of rows that the corpus's author set aside
LONE_CR = "\ud800"  # stands for it while csv reads: half a character, which no UTF-8 file holds

FORMATS = {  # how files of other formats begin
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "an Excel, LibreOffice or zip file",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"\x1f\x8b": "a gzip file",
}
HEADERS = {"register", "registre", "label", "labels", "genre", "category", "class", "text", "texts", "texte", "content"}
SEPARATORS = {
    ",": "a comma",
    ";": "a semicolon",
    "|": "a bar",
    ":": "a colon",
    "\\t": r"a written \t",
    " ": "a blank",
}
QUOTES = "\"'“”„‟‘’‚‛«»‹›`"


class CorpusError(RunError):
    """A corpus that cannot be used: `file:line: expected …, found …`."""


def exists(path: Path) -> bool:
    """Tell whether there is a file, link or folder, or anything that can't be looked at: reading it will say why."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; CorpusError if it can't be read, or is a pipe or a device, which could hang."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "a pipe or a device")
            return file.read()
    except OSError as error:
        broken_link = isinstance(error, FileNotFoundError) and path.is_symlink()
        found = f"a link to {os.readlink(path)!r}, which is not there" if broken_link else error.strerror
        raise CorpusError(f"{path}: expected a file that can be read, found: {found}") from error


def decode(path: Path, content: bytes) -> str:
    """Return UTF-8 as text, without a byte order mark; CorpusError that says what else it looks like."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, found = _what_encoding(error)
        raise CorpusError(f"{path}:{line}: expected UTF-8, found {found}") from None


def _what_encoding(error: UnicodeDecodeError) -> tuple[int, str]:
    """Return the line on which UTF-8 ends, and what seems to be there."""
    content, start = error.object, error.start
    line = content.count(b"\n", 0, start) + 1
    kind = next((name for beginning, name in FORMATS.items() if content.startswith(beginning)), "")
    if not kind and b"\t\0" in content[:1000]:
        kind = "UTF-16LE"
    elif not kind and b"\0\t" in content[:1000]:
        kind = "UTF-16BE"
    if kind.startswith("UTF"):
        return 1, f"{kind}: save the file as UTF-8, or type iconv -f {kind} -t UTF-8 FILE > NEW"
    if kind:
        return 1, f"{kind}: save its table as text, tab-separated, UTF-8"
    byte = content[start : start + 1]
    if byte == b"\xed" and b"\xa0" <= content[start + 1 : start + 2] < b"\xc0":
        return line, "half of a character (a surrogate): type the character anew"
    western = byte.decode("cp1252", "ignore")
    found = f"the byte 0x{byte.hex()}" + f", which is {western!r} in Windows-1252 (Latin-1, ANSI)" * bool(western)
    if content.isascii() or content[:start].isascii():
        return line, f"{found}: save the file as UTF-8, or type iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
    if error.reason == "unexpected end of data":
        return line, "a part of a character at the end of the file: was it copied whole?"
    return line, f"{found}, in a file that is UTF-8 up to here: type this character anew"


def read_rows(path: Path, content: str, registers: Collection[str]) -> Iterator[tuple[int, str, str]]:
    """Yield of each row the line on which it begins, its register, and its text; CorpusError at a row that is none.

    The text is "" where there is nothing to be seen. Of a row labelled unused, only the label is looked at.
    """
    row_within = re.compile(rf'[\r\n]"?({"|".join(map(re.escape, [*registers, UNUSED]))})"?\t')
    lone_cr = re.compile("\r(?!\n)")
    has_lone_cr = lone_cr.search(content) is not None
    if has_lone_cr:  # csv leaves it unquoted where it writes, and ends the row there where it reads
        content = lone_cr.sub(LONE_CR, content)
    previous_limit = csv.field_size_limit(max(len(content), 1))  # some texts exceed csv's 131,072 characters
    reader = csv.reader(io.StringIO(content, newline=""), delimiter="\t", strict=True)
    line, found = 1, None
    try:
        for fields in reader:
            if has_lone_cr:
                fields = [field.replace(LONE_CR, "\r") for field in fields]
            register, *columns = fields or [""]
            if register == UNUSED or _is_empty(register, columns, registers):
                yield line, register, ""
            elif len(columns) != 1 or register not in registers:
                found = _what_row(fields, registers, is_first=line == 1)
            elif "\t" in columns[0] and (other_row := row_within.search(columns[0])):
                found = _open_quote(line + columns[0].count("\n", 0, other_row.start() + 1))
            else:
                yield line, register, columns[0]
            if found:
                break
            line = reader.line_num + 1
    except csv.Error as error:
        raw = "\n".join(content.split("\n")[line - 1 : reader.line_num]).replace(LONE_CR, "\r")
        other_row = row_within.search(raw)
        if not (found := _what_separator(raw, registers)):
            if other_row:
                found = _open_quote(line + raw.count("\n", 0, other_row.start() + 1))
            elif str(error) == "unexpected end of data":
                found = _open_quote(None)
            else:
                found = (
                    f"more after the end of a quoted text, on line {reader.line_num}: "
                    "put the whole text in quotes, and double the quotes inside it"
                )
    finally:
        csv.field_size_limit(previous_limit)
    if found:
        raise CorpusError(f"{path}:{line}: expected REGISTER<tab>TEXT with {_one_of(registers)}, found {found}")


def _is_empty(register: str, columns: list[str], registers: Collection[str]) -> bool:
    """Tell whether a row holds no text: nothing at all, or nothing after its first column."""
    if "\0" in register or any(map(is_visible, columns)):  # NULs: a file that was damaged there
        return False
    return bool(columns) or register in registers or not is_visible(register)


def is_visible(text: str) -> bool:
    """Tell whether there is anything to be seen: not only blanks, control and zero-width characters."""
    return any(char != " " and char.isprintable() for char in text)


# ---- what is wrong ----


def _one_of(registers: Collection[str]) -> str:
    if len(registers) > 20:
        return f"one of the {len(registers)} registers of info/reg_abbv.json"
    return f"a register of {' '.join(sorted(registers))}"


def _what_row(fields: list[str], registers: Collection[str], *, is_first: bool) -> str:
    """Say what is wrong with a row that is not REGISTER<tab>TEXT, and what to do."""
    first, n = fields[0], len(fields)
    labels = {_key(label): label for label in [*registers, UNUSED]}
    shown = _shown("\t".join(fields))
    headers = [_key(re.split("[,;|]", first)[0]), *map(_key, fields[1:])]
    carriage_return = re.compile(f"\r({'|'.join(map(re.escape, registers))})$")
    if first not in registers and is_first and HEADERS & set(headers):
        return f"{shown}, which looks like a header: remove this line"
    if "\0" in first and all("\0" in field for field in fields):
        return f"NUL bytes, {shown}: save the file as UTF-8 if it is UTF-16, copy it anew if it is damaged"
    if any(carriage_return.search(field[-99:]) for field in fields[1:-1]):
        return "a line that ends in CR alone, as on an old Macintosh: save the file with line ends LF or CRLF"
    if first in registers and not any(map(is_visible, fields[2:])):
        return f"{n} columns, the last {n - 2} empty: remove these columns"
    if first in registers and fields[1] in registers:
        return f"{n} columns, two of them registers, {first!r} and {fields[1]!r}: keep one register"
    if first in registers:
        return f"{n} columns, {shown}: put a text that holds a tab in quotes, remove other columns"
    if n == 2 and _key(first) in labels:
        return f"{_shown(first)}: perhaps {labels[_key(first)]!r} was meant"
    if n == 2 and _key(fields[1]) in labels:
        return f"the register {_shown(fields[1])} in column 2: exchange the two columns"
    several = re.split(r"[\s,;/|+&-]+", first.strip())
    if len(several) > 1 and all(_key(part) in labels for part in several):
        return f"several registers, {_shown(first)}: keep one"
    if wrong := _what_separator(first, registers):
        return wrong
    elsewhere = [i for i, field in enumerate(fields, start=1) if _key(field) in labels]
    if n > 2 and elsewhere:
        return f"the register in column {elsewhere[0]} of {n}: keep two columns, register and text"
    header = ", which may be a header: then remove this line" * is_first
    if n == 1:
        return f"no tab, {shown}{header or ': put a text of several lines in quotes'}"
    return f"{_shown(first)} in {n} columns{header}" if n > 2 else f"{_shown(first)}{header}"


def _what_separator(row: str, registers: Collection[str]) -> str:
    """Say what stands where the tab should be, if a register is followed by anything known; else ""."""
    register = "|".join(map(re.escape, [*registers, UNUSED]))
    match = re.match(rf'[" ]*({register})(?:[" ]*(,|;|\||:|\\t)|"?( ))', row)
    if not match:
        return ""
    separator = SEPARATORS[match[2] or match[3]]
    return f"{separator} after {match[1]!r}, where a tab should be: save the table as tab-separated text"


def _open_quote(other_row: int | None) -> str:
    """Say that a quoted text does not end where it should. other_row: the line of a row within it, if there is one."""
    end = f"before line {other_row}, which looks like another row" if other_row else "up to the end of the file"
    return f"a quote at the beginning of the text that is not closed {end}: close it; double the quotes inside a text"


def _key(label: str) -> str:
    """Return a label to compare with others as the eye does: no case, no marks around it, no invisible characters."""
    label = unicodedata.normalize("NFKC", label[:100]).casefold()
    return "".join(char for char in label if char.isprintable() and char not in QUOTES).strip(" .:,;")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 30 else f"{text[:30]}…")
