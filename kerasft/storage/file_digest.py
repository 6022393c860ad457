"""The SHA-256 of a file or a folder, which tells whether another has taken its place."""

import hashlib
from pathlib import Path


def compute(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder by their names."""
    digest = hashlib.sha256()
    for one in sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]:
        with one.open("rb") as file:
            digest.update(f"{one.relative_to(path)}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()
