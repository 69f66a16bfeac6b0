"""Programs that no text file can hold as they are: of odd bytes, or large."""

from __future__ import annotations

from tests.contract.samples import Sample

HUGE_COMMENT = "# " + "x" * 100 + "\n"

SOURCES = {
    "nothing": "",
    "only a newline": "\n",
    "only white space": "   \n\t\n",
    "only comments": "# one\n# two",
    "only a docstring": '"""All there is."""',
    "no newline at the end": "print(1)",
    "a NUL byte": "print('never')\nx = '\0'\n",
    "a NUL byte in a comment": "# \0\nprint('never')\n",
    "a byte order mark": "\ufeffprint(__doc__, 'after the mark')\n",
    "a byte order mark before a docstring": '\ufeff"""Docs."""\nprint(__doc__)\n',
    "a byte order mark and a cookie of UTF-8": "\ufeff# -*- coding: utf-8 -*-\nprint('é')\n",
    "a byte order mark and another cookie": "\ufeff# -*- coding: latin-1 -*-\nprint('é')\n",
    "a byte order mark in the middle": "x = 1\n\ufeffprint(x)\n",
    "lines that end as on Windows": "x = '''a\r\nb'''\r\nprint(repr(x))\r\nif x:\r\n    raise ValueError('line 4')\r\n",
    "lines that end as on an old Macintosh": "x = 1\rprint(x)\rraise ValueError('line 3')\r",
    "line ends of all kinds": "print(1)\r\nprint(2)\rprint(3)\n1/0\r\n",
    "form feeds": "print(1)\n\x0c\ndef f():\n    \x0creturn 1/0\nf()\n",
    "separators that are no line ends": "x = 'a\u2028b\x85c\x1cd'\nprint(ascii(x))\nraise ValueError('line 3')\n",
    "an invisible character in a name": "a\u200d = 1\n",
    "control characters": "x = 1 \x01 + 2\n",
    "a character beyond the basic plane": "x = '🎉'; y = 1 / 0\n",
    "trailing white space and a backslash": "x = 1 + \\\n    1\nprint(x)   \n",
    "ten megabytes of comments": HUGE_COMMENT * 100_000 + "print('at the end')\nraise ValueError('line 100002')\n",
    "ten megabytes in one string": f"x = {'y' * 10_000_000!r}\nprint(len(x))\n",
    "many statements": "x = 0\n" + "x += 1\n" * 20_000 + "print(x)\n1/0\n",
    "a very long line": "x = [" + "1, " * 50_000 + "]\nprint(len(x))\nprint(x[60_000])\n",
    "a long chain of elif": "x = 500\nif x == -1: pass\n" + "".join(f"elif x == {n}: print({n})\n" for n in range(600)),
    "a hundred levels of indentation": "".join(" " * n + "if 1:\n" for n in range(99)) + " " * 99 + "print('deep')\n",
    "too many levels of indentation": "".join(" " * n + "if 1:\n" for n in range(101)) + " " * 101 + "pass\n",
    "too many nested blocks": "".join(" " * n + "for x in 1:\n" for n in range(30)) + " " * 30 + "pass\n",
    "nested parentheses": "print(" + "(" * 150 + "1" + ")" * 150 + ")\n",
    "too many nested parentheses": "x = " + "(" * 250 + "1" + ")" * 250 + "\n",
    "an expression too deep to compile": "x = " + "-" * 100_000 + "1\n",
    "a sum too deep to compile": "x = " + "1+" * 30_000 + "1\n",
    "attributes too deep to compile": "x = a" + ".b" * 30_000 + "\n",
    "a syntax error after much": "x = 1\n" * 10_000 + "y = (\n",
    "a syntax error in a long line": "x = [" + "1, " * 1000 + "2 3]\n",
}


READING = "import sys\nprint(sum(map(len, sys.stdin)), sys.stdin.read() == '')\n"

STDINS = {
    "much stdin": "".join(f"line {n}\n" for n in range(200_000)),
    "one long line of stdin": "x" * 3_000_000,
    "an empty stdin": "",
    "stdin with a NUL byte and line ends of all kinds": "a\0b\r\nc\rd\n\x85\u2028e",
}


def all_odd() -> list[Sample]:
    sources = [Sample(topic="sources", title=title, code=code) for title, code in SOURCES.items()]
    return sources + [Sample(topic="stdin", title=title, code=READING, stdin=text) for title, text in STDINS.items()]
