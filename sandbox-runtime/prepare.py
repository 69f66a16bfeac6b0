"""Run once when an image is built, as root: compiles what may be imported, and makes matplotlib's font list.

Without the compiled modules the first import of pandas takes 4.4 s; without the list the first chart searches fonts.
No sandbox could keep either: its root is read-only. The folder may be a copy from an image with another Python and
other fonts, so what was made there goes first.
"""

from __future__ import annotations

import compileall
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig

HERE = os.path.dirname(os.path.abspath(__file__))
OLDEST = (3, 9)
NEEDED = ("ctypes", "json", "shutil")  # what Debian's python3-minimal, for one, has not
FONTS = os.path.join(HERE, "matplotlib")
MAKE_LIST = "import matplotlib.font_manager"
NEVER_IMPORTED = re.compile(r"/(test|idlelib|lib2to3)/")


def main() -> None:
    if sys.version_info < OLDEST:
        sys.exit(f"Python {sys.version.split()[0]} is too old: the runtime needs 3.9 or later")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        sys.exit(f"this Python has no {' and no '.join(missing)}: the runtime needs the whole standard library")
    if not os.access(HERE, os.W_OK):
        sys.exit(
            f"{HERE} cannot be written to by uid {os.getuid()}: say USER root before this line, and yours after it"
        )
    sys.path.remove(HERE)  # our folder of font lists is no matplotlib
    forget_other_image()
    for folder in sorted({HERE, sysconfig.get_path("stdlib"), *filter(os.path.isdir, sys.path)}):
        compileall.compile_dir(folder, quiet=2, workers=0, rx=NEVER_IMPORTED)
    made_list = make_font_list()
    let_everybody_read()
    print(f"prepared for Python {sys.version.split()[0]}, {'with' if made_list else 'without'} a font list")  # noqa: T201


def forget_other_image() -> None:
    import shutil

    shutil.rmtree(FONTS, ignore_errors=True)
    for folder, folders, _ in os.walk(HERE):
        if "__pycache__" in folders:
            shutil.rmtree(os.path.join(folder, "__pycache__"))


def make_font_list() -> bool:
    os.mkdir(FONTS)
    if importlib.util.find_spec("matplotlib") is None:
        return False
    environment = {"PATH": os.defpath, "MPLCONFIGDIR": FONTS, "HOME": FONTS}  # it asks fc-list, where there is one
    subprocess.run([sys.executable, "-I", "-c", MAKE_LIST], env=environment, check=True)  # noqa: S603  # our own words
    return True


def let_everybody_read() -> None:
    """Whatever umask the source was checked out with: a pod runs under an id of its own."""
    for folder, _, files in os.walk(HERE):
        os.chmod(folder, 0o755)  # noqa: S103  # to be read is what it is for
        for name in files:
            os.chmod(os.path.join(folder, name), 0o644)


if __name__ == "__main__":
    main()
