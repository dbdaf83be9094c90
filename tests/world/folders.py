"""A site that takes zips from a folder."""

import shutil
from pathlib import Path

from tests.world.stack import Site

QUICK = {
    "PIPELINE_SOURCE_INBOX_SETTLE_SECONDS": "0",
    "PIPELINE_SOURCE_INBOX_POLL_SECONDS": "0.2",
    "PIPELINE_QUEUE_BACKOFF_SECONDS": "1",
    "PIPELINE_QUEUE_BACKOFF_LIMIT_SECONDS": "2",
}


def add_folder(site: Site, **values: str) -> Path:
    """Give the site a folder beside its queue; returns it."""
    folder = site.home / "inbox"
    folder.mkdir(exist_ok=True)
    lines = ["[source inbox]", "kind = folder", f"path = {folder}"]
    lines += [f"{name} = {value}" for name, value in values.items()]
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    site.settings.update(QUICK)
    return folder


def drop(bag_zip: Path, folder: Path, name: str = "") -> Path:
    """Put a zip into the folder as a feeder should: whole at once."""
    target = folder / (name or bag_zip.name)
    part = folder / f".{target.name}.part"
    shutil.copy(bag_zip, part)
    return part.rename(target)


def lying_in(folder: Path) -> list[str]:
    """Every file in a folder and below, reports left out."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in {"report.txt", "report.json"}
    )
