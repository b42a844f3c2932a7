"""Commands about a project: make one, check one, list the settings."""

import pathlib
import shutil

from penstock.commands.command import Context
from penstock.commands.printing import put, put_json, say
from penstock.errors import SettingsError
from penstock.settings import describe

SCAFFOLD = pathlib.Path(__file__).parent.parent / "project" / "scaffold"


def new(context: Context, name: str) -> None:
    folder = pathlib.Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder}: is there already, and not empty. Choose another name.")
    try:
        shutil.copytree(
            SCAFFOLD, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    except OSError as exc:
        raise SettingsError(f"{folder}: cannot be made: {exc}") from exc
    # Under another name in the package: a .gitignore there would hide the scaffold's own files.
    (folder / "gitignore").rename(folder / ".gitignore")
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            say(f"  {file}")
    put(f"{folder} is a project. Try it:")
    put(f'  cd {folder}\n  penstock check\n  penstock run greeting "rain on a tin roof"')


def check(context: Context) -> int:
    project = context.project
    if context.as_json:
        found = {"problems": project.problems, "warnings": project.warnings}
        put_json(found | {"pipelines": list(project.chains)})
        return 1 if project.problems else 0
    for warning in project.warnings:
        say(f"Warning: {warning}", style="yellow")
    if project.problems:
        for problem in project.problems:
            say(problem, style="red")
        say(f"{len(project.problems)} to mend.", style="red")
    else:
        for chain in project.chains.values():
            begins = " or ".join(f"'{entry}'" for entry in chain.entries)
            put(f"{chain.name}: {len(chain.stages)} stages, begins with {begins}")
            for stage in chain.stages:
                goes = " or ".join(stage.targets) or "the end"
                put(f"  {stage.reads} → {goes}: {stage.does}")
        put(f"All is well in {project.root.absolute()}.")
    return 1 if project.problems else 0


def settings(context: Context) -> None:
    rows = describe()
    if context.as_json:
        put_json([dict(zip(("name", "default", "about"), r, strict=True)) for r in rows])
        return
    for name, default, about in rows:
        put(f"{name:<28} {about}{f' (default: {default})' if default else ''}")
