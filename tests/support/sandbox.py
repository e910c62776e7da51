"""One short private folder for each test, and the environment that keeps everything inside it."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

MARK = "KM_TEST_SANDBOX"
"""Set for the test process and all its descendants, so that an orphan can still be recognised."""

UNWANTED = (
    "PYTEST_CURRENT_TEST",  # switches off ipykernel's capture of file descriptors
    "PYTEST_VERSION",
    "JPY_PARENT_PID",  # these tests may themselves be run from a notebook
    "JPY_SESSION_NAME",
    "IPY_INTERRUPT_EVENT",
    "FORCE_COLOR",
    "NO_COLOR",
)


def short_temporary_folder() -> Path:
    """A new private folder whose path leaves room for socket names (107 bytes in all)."""
    system = tempfile.gettempdir()
    parent = system if len(system) <= 20 else "/tmp"
    return Path(tempfile.mkdtemp(prefix="km", dir=parent))


@dataclass(frozen=True)
class Sandbox:
    """Folders of one test: everything that it and its processes write goes below ``root``."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> "Sandbox":
        """Make the folders; ``remove()`` takes them away."""
        sandbox = cls(root)
        for folder in (*sandbox.jupyter.values(), sandbox.temporary, sandbox.work):
            folder.mkdir(parents=True, mode=0o700)
        return sandbox

    @property
    def runtime(self) -> Path:
        """Where Jupyter keeps connection files."""
        return self.root / "run"

    @property
    def temporary(self) -> Path:
        """What ``tempfile`` uses, here and in all children."""
        return self.root / "tmp"

    @property
    def work(self) -> Path:
        """A working directory for children; logs and sockets of helpers go there as well."""
        return self.root / "cwd"

    @property
    def jupyter(self) -> dict[str, Path]:
        """The folders of Jupyter and IPython by their variables.

        The environment's own kernelspecs (below ``sys.prefix``) are found all the same.
        """
        return {
            "JUPYTER_RUNTIME_DIR": self.runtime,
            "JUPYTER_CONFIG_DIR": self.root / "conf",
            "JUPYTER_DATA_DIR": self.root / "data",
            "IPYTHONDIR": self.root / "ipy",
        }

    @property
    def variables(self) -> dict[str, str]:
        """What has to be set, here and in children, to stay inside."""
        folders = {name: str(path) for name, path in self.jupyter.items()}
        return {**folders, "TMPDIR": str(self.temporary), MARK: str(self.root)}

    def environment(self, **more: str) -> dict[str, str]:
        """A full environment for a child that can import the packages of this checkout."""
        inherited = {name: value for name, value in os.environ.items() if name not in UNWANTED}
        paths = [str(CHECKOUT), *filter(None, [inherited.get("PYTHONPATH")])]
        return {**inherited, **self.variables, "PYTHONPATH": os.pathsep.join(paths), **more}

    def remove(self) -> None:
        """Take all folders away; they may be gone already."""
        shutil.rmtree(self.root, ignore_errors=True)
