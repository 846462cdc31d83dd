"""A reader who does what a page says: every block in order, in an empty folder."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.forked import can_be_forked, forked

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path.relative_to(DOCS).as_posix() for room in ("start", "how-to", "extend") for path in (DOCS / room).glob("*.md")
)
REASONS = {
    "installs packages",
    "needs a clone",
    "needs SLURM",
    "needs a Hub download",
    "needs a data set",
    "names files of yours",
    "takes minutes",
}
# Pages that take no more than a few seconds; stubs among them.
QUICK = {"start/install.md", "extend/command.md"}
BLOCK = re.compile(r"(?:^<!-- ([^\n]+) -->\n)?^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is in, what it says, and the comment above it."""

    language: str
    code: str
    comment: str = ""

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        return self.comment.removeprefix("not run: ") if self.comment.startswith("not run: ") else None

    @property
    def file(self) -> str | None:
        """What it is to be saved as."""
        return self.comment.removeprefix("file: ") if self.comment.startswith("file: ") else None


def blocks_of(page: str) -> list[Block]:
    return [Block(language, code, comment) for comment, language, code in BLOCK.findall((DOCS / page).read_text())]


def matches(shown: str, printed: str) -> bool:
    """Whether output is what a page shows; ``...`` stands for anything, and numbers of blanks do not matter."""
    parts = [re.escape(" ".join(part.split())) for part in shown.split("...")]
    return re.search(r"\s*.*?".join(part.replace(r"\ ", r"\s+") for part in parts), " ".join(printed.split())) is not None


def plain(command: str) -> list[list[str]] | None:
    """The words of every line if a block runs our command and Python alone, and nothing that a shell makes something of."""
    try:
        lines = [shlex.split(line, comments=True) for line in command.replace("\\\n", " ").splitlines()]
    except ValueError:
        # A quotation goes on in the next line.
        return None
    lines = [line for line in lines if line]
    known = all(line[0] in ("poison-and-defend", "python") for line in lines)
    return lines if known and not any(set(word) & set("|&;<>$`*?~(") for line in lines for word in line) else None


class Reader:
    """Does what a page says.

    Args:
        folder: An empty one.
        kept: Networks and clean stores that other pages made, as one who reads several pages in one folder has them.
    """

    def __init__(self, folder: Path, kept: Path) -> None:
        self.folder, self.kept = folder, kept
        inherited = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT")}
        # The command and the python of the environment that runs the tests, whether it was activated or not.
        found = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
        # What W&B is given is read where experiments are tested, and costs each of them three seconds.
        self.environment = {**inherited, "PATH": found, "COLUMNS": "100", "WANDB_MODE": "disabled"}
        self.environment.pop("PYTHONPATH", None)

    def begin(self, page: str) -> None:
        """Make what a page takes for granted."""
        if any(self.kept.iterdir()):
            shutil.copytree(self.kept, self.folder / "runs")
        text = (DOCS / page).read_text()
        for other, file in re.findall(r"^<!-- begins with: (\S+) (\S+) -->$", text, re.MULTILINE):
            (block,) = [block for block in blocks_of(other) if block.file == file]
            self.save(file, block.code)
            self.shell(f"python {file}")
        if "<!-- begins in a clone -->" in text:
            shutil.copytree(ROOT / "poison_and_defend", self.folder / "poison_and_defend")

    def end(self) -> None:
        """Keep what is named by its content, and so is right for whoever needs it."""
        for name in ("models", "stores"):
            if (self.folder / "runs" / name).is_dir():
                shutil.copytree(self.folder / "runs" / name, self.kept / name, dirs_exist_ok=True)

    def save(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def shell(self, command: str) -> str:
        lines = plain(command)
        if lines is None:
            return self.bash(command)
        printed = ""
        for program, *arguments in lines:
            ours = program == "poison-and-defend" and can_be_forked(arguments)
            printed += self.fork(arguments) if ours else self.bash(shlex.join([program, *arguments]))
        return printed

    def bash(self, command: str) -> str:
        ran = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=600,
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}"
        return ran.stdout

    def fork(self, arguments: list[str]) -> str:
        """What one of our commands prints."""
        ran = forked(arguments, self.folder, self.environment, 600, merged=True)
        assert ran.returncode == 0, f"{arguments}\n{ran.stdout}"
        return ran.stdout

    def follow(self, block: Block) -> str:
        """What a block prints."""
        if block.file is not None:
            self.save(block.file, block.code)
            return ""
        if block.language == "diff":
            self.save("change.diff", block.code)
            return self.shell("git apply --unidiff-zero --recount change.diff")
        if block.language == "python":
            self.save("example.py", block.code)
            return self.shell("python example.py")
        assert block.language == "bash", f"nobody knows how to run a block of {block.language or 'no language'}"
        return self.shell(block.code)


def follow(page: str, folder: Path, kept: Path) -> None:
    """Run every block of a page, and compare what it shows with what is printed."""
    reader = Reader(folder, kept)
    reader.begin(page)
    printed = ""
    for block in blocks_of(page):
        if block.language == "text":
            assert matches(block.code, printed), f"{page} shows\n{block.code}\nand it was\n{printed}"
        elif block.reason is None:
            printed = reader.follow(block)
    reader.end()
