"""Read the JSON files of runs, and check that they hold what is read from them.

A shape is a type (float: any number), a pattern that a string matches, a list with the shape of its elements, or an
object with the shape of each value that is read; {str: shape} is an object with any keys.
"""

import json
import re
from pathlib import Path
from typing import Any

from utils.runs import RunError, first_line, shown

KINDS = {dict: "an object", list: "a list", str: "a string", int: "a count", float: "a number"}
LARGEST = 2**53  # above, whole numbers are no longer exact in other programs' JSON


def read_record(path: Path, shape: Any, remedy: str) -> Any:
    """Read a JSON file that has this shape, and maybe more; RunError with the remedy if it is not so, or not whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()  # else it could not be written again
    except FileNotFoundError:
        raise RunError(f"{shown(path)}: expected a file, found none; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{shown(path)}: expected JSON, found: {first_line(error)}; {remedy}") from error
    difference = misfit(content, shape)
    if difference:
        raise RunError(f"{shown(path)}: expected {difference}; {remedy}")
    return content


def misfit(content: Any, shape: Any, place: str = "") -> str:
    """Return where content differs from the shape, as `epochs to be a count, found 'x'`; "" if it does not."""
    if isinstance(shape, re.Pattern):
        is_name = isinstance(content, str) and shape.fullmatch(content)
        return "" if is_name else f"{place} to be a name, found {_brief(content)}"
    kind = shape if isinstance(shape, type) else type(shape)
    fits = type(content) in (kind, int if kind is float else kind) and (kind is not int or 0 <= content < LARGEST)
    if not fits:
        return f"{place or 'the file'} to be {KINDS[kind]}, found {_brief(content)}"
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(shape, list):
        parts = [(f"{place}[{index}]", element, shape[0]) for index, element in enumerate(content)]
    elif isinstance(shape, dict):
        under = f"{place}." if place else ""
        absent = [key for key in shape if key is not str and key not in content]
        if absent:
            return f"{under}{absent[0]}, found none: it was written by another version of this tool"
        keys = content if str in shape else shape
        parts = [(f"{under}{key}", content[key], shape.get(str, shape.get(key))) for key in keys]
    return next((found for part in parts if (found := misfit(part[1], part[2], part[0]))), "")


def _brief(content: Any) -> str:
    return KINDS[type(content)] if isinstance(content, dict | list) else repr(content)[:40]
