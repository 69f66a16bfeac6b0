"""Write the golden renders anew: `.venv/bin/python -m tests.chart.renew`, then read the diff."""

from __future__ import annotations

from tests.chart import rendering


def main() -> None:
    for old in (rendering.FOLDER / "golden").glob("*.yaml"):
        old.unlink()
    for branch in rendering.BRANCHES:
        done = rendering.template(rendering.values_of(branch))
        if done.returncode:
            raise SystemExit(f"{branch.name}: {done.stderr}")
        rendering.golden(branch).write_text(done.stdout)
        print(rendering.golden(branch).name)


if __name__ == "__main__":
    main()
