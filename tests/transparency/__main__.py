"""``python -m tests.transparency NOTEBOOK...``: does a remote run show what a direct run shows?

Meant for notebooks never seen before. Some of those are not even like themselves: they print the
time, random numbers, process ids. So a notebook with differences is run directly once more, and
cells whose two direct runs differ are listed as unsteady instead of being held against the remote
run. Exits with 1 if a steady cell differs.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import nbformat

from .compare import Difference, PrologueFailed, differences, run_direct, run_remote


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.transparency", description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--spec", default="python3", help="kernelspec of the cells' language")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="what the notebooks work on")
    parser.add_argument("--timeout", type=float, help="seconds for one cell; none without")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep the executed notebooks")
    parser.add_argument(
        "--twice", action="store_true", help="two direct runs and no remote one: the control"
    )
    options = parser.parse_args(arguments)
    how = {"spec": options.spec, "files": options.files, "timeout": options.timeout}

    print(f"{'notebook':40} {'cells':>6} {'same':>6} {'different':>10} {'unsteady':>9}")
    failed = False
    reports: list[str] = []
    for path in options.notebooks:
        notebook = nbformat.read(path, as_version=4)
        # Old notebooks have cells without ids; nbformat would invent them, and warn, in each run.
        _, notebook = nbformat.validator.normalize(notebook)
        try:
            direct = run_direct(notebook, **how)
            other = run_direct(notebook, **how) if options.twice else run_remote(notebook, **how)
            found = differences(direct, other)
            unsteady: set[int] = set()
            if found and not options.twice:
                unsteady = {each.cell for each in differences(direct, run_direct(notebook, **how))}
        except PrologueFailed:
            raise  # no other notebook would fare better
        except Exception as error:
            failed = True
            print(f"{path.name[:40]:40} {type(error).__name__}")
            reports.append("\n".join([f"=== {path}", str(error), *getattr(error, "__notes__", [])]))
            continue

        if options.save:
            for name, executed in (("direct", direct), ("remote", other)):
                target = options.save / name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                nbformat.write(executed, target)

        cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        by_cell: defaultdict[int, list[Difference]] = defaultdict(list)
        for each in found:
            by_cell[each.cell].append(each)
        different = by_cell.keys() - unsteady
        same = cells - len(by_cell.keys() | unsteady)
        failed = failed or bool(different)
        print(
            f"{path.name[:40]:40} {cells:6} {same:6} {len(different):10} {len(unsteady):9}",
            flush=True,
        )
        for cell in sorted(by_cell):
            note = " (unsteady: two direct runs differ here too)" if cell in unsteady else ""
            reports += [f"=== {path}{note}\n{each}" for each in by_cell[cell]]
    if reports:
        print("", *reports, sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
